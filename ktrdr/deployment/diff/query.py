"""Finds out on the hosts what a deploy would change there, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ktrdr.deployment.deploy import comparison as compare
from ktrdr.deployment.deploy import step_errors as faults
from ktrdr.deployment.deploy.comparison import Action, Comparison, ServiceChange
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.diff import changes as difference
from ktrdr.deployment.diff.changes import Difference
from ktrdr.deployment.homelab.host_config import REGISTRY_LOGIN
from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.homelab.secret_steps import (
    FORMER_TOKEN_SECRET,
    SERVICE_HEALTH,
    secrets_extension,
)
from ktrdr.deployment.hosts import history, registry
from ktrdr.deployment.hosts import parallel as abreast
from ktrdr.deployment.releases import compose_file as stack
from ktrdr.deployment.releases.archive import pack_files
from ktrdr.deployment.releases.checkout import Between, Checkout
from ktrdr.deployment.scripts import sections
from ktrdr.deployment.scripts.script import Script, render, repeat
from ktrdr.deployment.ssh.interface import RemoteResult, Transport
from ktrdr.errors import KtrdrError
from ktrdr.secret import Secret

_TIMEOUT_S: Final = 60.0
# The files of the release are put there: no disk sees them.
_TMPFS: Final = "/dev/shm"  # noqa: S108  # a directory of its own is made in it, or nothing
# Far enough back to find the release that runs.
_EVENTS: Final = 40


@dataclass(frozen=True, slots=True)
class Differ:
    """Compares releases with what is on the hosts.

    Attributes:
        checkout: Knows the commits between two releases.
        transport: The way to the hosts.
        mark: What makes the name of the directory on their tmpfs unique.
        values: The vault's secrets by host, where it was asked; where not, those that the
            containers have are taken for unchanged, and do not leave the host.
    """

    checkout: Checkout
    transport: Transport
    mark: str
    values: Mapping[str, Mapping[str, Secret]] | None = None

    def all(self, plans: Mapping[Place, Plan]) -> list[Difference]:
        """One for each host; one that cannot be looked at does not hide the others."""
        return abreast.on_each(
            lambda place: self._look(place, plans[place]), list(plans), self.transport
        )

    def script(self, plan: Plan) -> Script:
        """Return the script that looks at a host."""
        site, files = plan.site, plan.release.files
        secrets = (*site.secrets, *FORMER_TOKEN_SECRET)
        handed = stack.handed(plan.release.compose(site.target), secrets)
        arguments = (
            # With all profiles: the hash of a service does not depend on the others.
            *plan.builder.stack_options(("*",)),
            *("--staging", f"{_TMPFS}/ktrdr-diff-{self.mark}"),
            *repeat("--image", sorted({service.image for service in plan.wanted})),
            *("--history", str(_EVENTS)),
            *("--secrets", "given" if self.values else "deployed"),
            *repeat("--deployed-secret", (f"{variable}={name}" for variable, name in handed)),
            *repeat("--registry", self._movable_images(plan)),
            *("--", *sorted(files)),
        )
        return Script(
            "scripts/diff.sh",
            arguments,
            extensions=(SERVICE_HEALTH, secrets_extension(site.target)),
            settings=site.settings,
            secrets=(*site.secrets, REGISTRY_LOGIN) if self.values else (),
            payload=pack_files(files),
        )

    def _movable_images(self, plan: Plan) -> list[str]:
        """Return the images whose tag may have moved; asking the registry wants a login."""
        if not self.values or plan.release.is_immutable:
            return []
        return sorted({service.image for service in plan.wanted if _is_own(service.image, plan)})

    def _look(self, place: Place, plan: Plan) -> Difference:
        values = (self.values or {}).get(place.host, {})
        try:
            script = render(self.script(plan), values)
            result = self.transport.run(place.host, script, timeout_s=_TIMEOUT_S)
            return self._read(place, plan, result)
        except KtrdrError as error:
            return Difference(place, plan, error)

    def _read(self, place: Place, plan: Plan, result: RemoteResult) -> Difference:
        found = sections.split(result.stdout)
        if result.exit_code:
            raise _failed(plan, found, result)
        files = tuple(difference.files(plan, found.get("files", ())))
        entry = history.running(history.read(found.get("history", ())), plan.service)
        settings = tuple(difference.settings(plan, files, entry.settings if entry else None))
        comparison = compare.compare(
            plan, {**found, "files": [f"{file.sign} {file.path}" for file in files]}
        )
        altered, rotated = {change.name for change in settings}, _rotated(found)
        changes = [
            difference.explained(plan, change, files, altered, rotated=change.service in rotated)
            for change in comparison.services
        ]
        moved = _moved(found)
        return Difference(
            place=place,
            plan=plan,
            services=tuple(_with_moved(change, plan, moved) for change in changes),
            images=tuple(difference.images(plan, comparison)),
            settings=settings,
            files=files,
            losses=comparison.losses,
            unfinished=comparison.unfinished,
            commits=self._commits(plan, comparison),
            notes=tuple(self._notes(plan, comparison)),
        )

    def _commits(self, plan: Plan, comparison: Comparison) -> dict[str, Between | None]:
        """The commits since each release that runs, by its tag."""
        new = plan.release
        tags = {
            container.image.partition("@")[0].rpartition(":")[2]
            for service in plan.wanted
            if service.says_version and (container := comparison.before.get(service.name))
        }
        return {
            tag: self.checkout.between(tag, new.commit or new.tag)
            for tag in sorted(tags - {new.tag})
        }

    def _notes(self, plan: Plan, comparison: Comparison) -> Iterator[str]:
        if not comparison.before:
            return
        if not self.values:
            yield "the secrets are taken for unchanged; --secrets asks the vault for them"
            if not plan.release.is_immutable:
                yield f"whether the tag {plan.release.tag} has moved is not known without --secrets"
        if history.running(comparison.history, plan.service) is None:
            yield f"{plan.site.name} has no record of the inventory's values at its last deploy"
        was = bool(comparison.found.get("delivery"))
        if was != plan.site.in_memory:
            way = "files in memory" if plan.site.in_memory else "environment"
            yield f"the containers of {plan.site.name} would be given their secrets as {way}"


def _failed(plan: Plan, found: Mapping[str, Sequence[str]], result: RemoteResult) -> KtrdrError:
    phase = list(found)[-1] if found else f"directory {_TMPFS}"
    if phase in ("hashes", "unchanged"):
        return faults.fetching_failed(plan, phase, result)
    return faults.looking_failed(plan, phase, result)


def _is_own(image: str, plan: Plan) -> bool:
    return image.endswith(f":{plan.release.tag}")


def _rotated(found: Mapping[str, Sequence[str]]) -> set[str]:
    """The services whose secrets are others in the vault than in their containers."""
    vault, kept = (found.get(name) for name in ("hashes", "unchanged"))
    return {line.partition(" ")[0] for line in set(vault or ()) - set(kept or vault or ())}


def _moved(found: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """The images whose tag means another one at the registry than on the host."""
    answers = registry.read_digests(found.get("registry", ()))
    text = "\n".join(found.get("images", ()))
    return frozenset(
        image for image, answer in answers.items() if answer.code == 0 and answer.text not in text
    )


def _with_moved(change: ServiceChange, plan: Plan, moved: frozenset[str]) -> ServiceChange:
    image = next((each.image for each in plan.wanted if each.name == change.service), "")
    if image in moved and change.action is Action.UNCHANGED:
        return replace(change, action=Action.RECREATED, reason="its tag has another image now")
    return change
