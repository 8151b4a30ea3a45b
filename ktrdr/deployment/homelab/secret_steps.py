"""How a deploy hands secrets to a stack, and makes what has a memory of its own follow the vault.

`steps` asks for pieces of its scripts here. In the order of a deploy:

1. fetch, before Compose hashes the configuration: `looks`, which changes nothing;
2. apply, before ``up``: `before_up`; files in memory first, then the database's role, right behind
   which the backend is replaced;
3. apply, after ``up``: `after_up`; Grafana's password, and what is left of the other delivery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ktrdr.deployment.hosts.host import HostConfig
from ktrdr.deployment.scripts import delivery, rotation
from ktrdr.deployment.scripts.compose import Compose
from ktrdr.deployment.scripts.delivery import Consumer
from ktrdr.deployment.scripts.sections import section

# The section of fetch that ends early where the database's role has another name.
ROLE: Final = "role"


@dataclass(frozen=True, slots=True)
class HomelabSecretSteps:
    """The secrets' part of one deploy.

    Attributes:
        config: Where to.
        project: Its Compose project.
        services: What is to run.
        whole: Whether that is the whole stack.
        image: An image with a shell that the host has once images are pulled.
    """

    config: HostConfig
    overlap_s: int
    project: Compose
    services: Sequence[str]
    whole: bool
    image: str

    def fetch_steps(self) -> list[str]:
        """What fetch does before Compose hashes the configuration."""
        parts = [rotation.unfinished(self.config.host.workdir)]
        if self._has("backend"):
            parts += [
                section(ROLE),
                self._recalling(),
                rotation.same_role(self.config.host.project),
            ]
        return [*parts, *self.exports()]

    def exports(self) -> list[str]:
        """What Compose's hashes depend on beside the vault; changes nothing."""
        tokens = [self._recalling(), self._carry_over()] if self._has("backend") else []
        return [*tokens, *self._fingerprints()]

    def current_fingerprints(self) -> list[str]:
        """The same as the containers have it, where the vault is not asked."""
        if not (self.config.secrets_in_memory and self._consumers):
            return []
        return [delivery.kept_fingerprints(self.config.host.project, self._consumers)]

    def before_up(self) -> list[str]:
        """What apply does once the configuration is in its place."""
        parts = [rotation.begin(self.config.host.workdir, self.config.host.project)]
        if self._has("backend"):
            parts += [self._recalling(), self._carry_over()]
        if self.config.secrets_in_memory and self._consumers:
            parts.append(delivery.write(self._directory, self._consumers, self.image))
            parts += self._fingerprints()
        if self._has("backend"):
            up = self.project.up("db")
            parts.append(rotation.database(self.config.host.project, up))
        return parts

    def after_up(self) -> list[str]:
        """What apply does once Compose has brought about the difference."""
        parts = []
        if self._has("grafana"):
            parts.append(rotation.grafana(self.config.host.project))
        if not self.config.secrets_in_memory and self._consumers:
            parts.append(delivery.remove(self._directory, self._consumers, self.image))
        return [*parts, rotation.finish(self.config.host.workdir, whole=self.whole)]

    @property
    def _directory(self) -> str:
        return delivery.directory_of(self.config.host.project)

    @property
    def _consumers(self) -> tuple[Consumer, ...]:
        all_of_them = delivery.CORE if self.config.host.stack == "core" else delivery.WORKERS
        return tuple(c for c in all_of_them if not c.service or c.service in self.services)

    def _has(self, service: str) -> bool:
        return self.config.host.stack == "core" and service in self.services

    def _recalling(self) -> str:
        return rotation.recalling(self.config.host.project, self._directory)

    def _carry_over(self) -> str:
        return rotation.carry_over(self.config.host.project, self.overlap_s)

    def _fingerprints(self) -> list[str]:
        if not (self.config.secrets_in_memory and self._consumers):
            return []
        return [delivery.fingerprints(self._directory, self._consumers)]
