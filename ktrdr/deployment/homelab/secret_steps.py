"""How a deploy hands secrets to a stack, and makes what has a memory of its own follow the vault.

`steps` asks for pieces of its scripts here. In the order of a deploy:

1. fetch, before Compose hashes the configuration: `looks`, which changes nothing;
2. apply, before ``up``: `before_up`; files in memory first, then the database's role, right behind
   which the backend is replaced;
3. apply, after ``up``: `after_up`; Grafana's password, and what is left of the other delivery.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ktrdr.deployment.homelab.host_config import Site
from ktrdr.deployment.scripts import delivery, rotation
from ktrdr.deployment.scripts.compose import Compose
from ktrdr.deployment.scripts.delivery import Consumer
from ktrdr.deployment.scripts.sections import section

# The section of fetch that ends early where the database's role has another name.
ROLE: Final = "role"
_HOUR_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Handover:
    """The secrets' part of one deploy.

    Attributes:
        site: Where to.
        project: Its Compose project.
        services: What is to run.
        whole: Whether that is the whole stack.
        image: An image with a shell that the host has once images are pulled.
    """

    site: Site
    project: Compose
    services: Sequence[str]
    whole: bool
    image: str

    def looks(self) -> list[str]:
        """What fetch does before Compose hashes the configuration."""
        parts = [rotation.unfinished(self.site.workdir)]
        if self._has("backend"):
            parts += [section(ROLE), self._recalling(), rotation.same_role(self.site.project)]
        return [*parts, *self.exports()]

    def exports(self) -> list[str]:
        """What Compose's hashes depend on beside the vault; changes nothing."""
        tokens = [self._recalling(), self._carry_over()] if self._has("backend") else []
        return [*tokens, *self._fingerprints()]

    def kept(self) -> list[str]:
        """The same as the containers have it, where the vault is not asked."""
        if not (self.site.in_memory and self._consumers):
            return []
        return [delivery.kept_fingerprints(self.site.project, self._consumers)]

    def before_up(self) -> list[str]:
        """What apply does once the configuration is in its place."""
        parts = [rotation.begin(self.site.workdir, self.site.project)]
        if self._has("backend"):
            parts += [self._recalling(), self._carry_over()]
        if self.site.in_memory and self._consumers:
            parts.append(delivery.write(self._directory, self._consumers, self.image))
            parts += self._fingerprints()
        if self._has("backend"):
            up = self.project.up("db")
            parts.append(rotation.database(self.site.project, up))
        return parts

    def after_up(self) -> list[str]:
        """What apply does once Compose has brought about the difference."""
        parts = []
        if self._has("grafana"):
            parts.append(rotation.grafana(self.site.project))
        if not self.site.in_memory and self._consumers:
            parts.append(delivery.remove(self._directory, self._consumers, self.image))
        return [*parts, rotation.finish(self.site.workdir, whole=self.whole)]

    @property
    def _directory(self) -> str:
        return delivery.directory_of(self.site.project)

    @property
    def _consumers(self) -> tuple[Consumer, ...]:
        all_of_them = delivery.CORE if self.site.target == "core" else delivery.WORKERS
        return tuple(c for c in all_of_them if not c.service or c.service in self.services)

    def _has(self, service: str) -> bool:
        return self.site.target == "core" and service in self.services

    def _recalling(self) -> str:
        return rotation.recalling(self.site.project, self._directory)

    def _carry_over(self) -> str:
        return rotation.carry_over(self.site.project, self.site.overlap_s)

    def _fingerprints(self) -> list[str]:
        if not (self.site.in_memory and self._consumers):
            return []
        return [delivery.fingerprints(self._directory, self._consumers)]


def remarks(
    site: Site, sections: Mapping[str, Sequence[str]], *, following: Collection[str] = ()
) -> Iterator[str]:
    """What the operator should know after an apply that changed secrets, each in a sentence.

    Args:
        site: Where it was.
        sections: What the script printed.
        following: The worker nodes that the same command deploys, too.
    """
    rotated = {line.partition(" ")[0]: line for line in sections.get("rotated", ())}
    theirs = [name for name in ("db_password", "jwt_secret") if name in rotated]
    left = [node for node in site.nodes if node not in following]
    if theirs and left:
        whole = len(left) == len(site.nodes) > 1
        commands = [f"`ktrdr deploy workers {node}`" for node in (["all"] if whole else left)]
        whose = "the workers" if whole else f"the workers of {', '.join(left)}"
        yield f"{whose} still have the former {' and '.join(theirs)}: run {' and '.join(commands)}"
    if "jwt_secret" in rotated:
        yield _of_tokens(site.overlap_s)
    if rotated.get("grafana_password", "").endswith("unknown"):
        yield (
            "Grafana's password could not be compared with the vault's, because Grafana or the "
            "backend did not answer; the next deploy of the core looks again"
        )


def _of_tokens(overlap_s: int) -> str:
    if not overlap_s:
        return "tokens signed with the former jwt_secret are no longer good"
    return (
        f"tokens signed with the former jwt_secret are good for {overlap_s // _HOUR_S} h more: "
        "make new ones with `ktrdr token create` until then"
    )
