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
from ktrdr.deployment.hosts import history
from ktrdr.deployment.hosts import parallel as abreast
from ktrdr.deployment.releases.checkout import Checkout, CommitRange
from ktrdr.deployment.releases.compose_file import secret_env_map
from ktrdr.deployment.releases.release import MONITORING
from ktrdr.deployment.scripts import delivery, docker, registry, rotation, sections
from ktrdr.deployment.scripts import difference as commands
from ktrdr.deployment.scripts import history as records
from ktrdr.deployment.scripts import release as archives
from ktrdr.deployment.scripts.compose import Compose
from ktrdr.deployment.scripts.difference import Handed
from ktrdr.deployment.scripts.rotation import CARRIED_OVER
from ktrdr.deployment.scripts.script import Script, quote, render
from ktrdr.deployment.scripts.sections import section
from ktrdr.deployment.ssh.interface import RemoteResult, Transport
from ktrdr.errors import KtrdrError
from ktrdr.secret import Secret

_TIMEOUT_S: Final = 60.0
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
        """What is asked of a host."""
        site, place = plan.site, commands.staging(self.mark)
        compose = self._compose(plan)
        swept = MONITORING if site.target == "core" else ""
        secrets = (*site.secrets, *CARRIED_OVER)
        handed = [
            Handed(*pair)
            for pair in secret_env_map(plan.release.compose_content(site.target), secrets)
        ]
        handover = plan.builder.handover
        kept = _kept(site.project, handed, "\n".join([*handover.kept(), compose.hashes()]))
        hashes = [*handover.exports(), section("hashes"), compose.hashes()]
        body = [
            commands.stage(place),
            section("files"),
            commands.files(place, site.workdir, plan.release.files, swept),
            section("history"),
            records.read(site.workdir, last=_EVENTS),
            section("containers"),
            docker.containers(site.project),
            section("images"),
            docker.images(sorted({service.image for service in plan.wanted})),
            section("delivery"),
            delivery.presence(site.project),
            rotation.unfinished(site.workdir),
            *self._registry(plan),
            *(hashes if self.values else [section("hashes"), kept]),
        ]
        if self.values:
            body += [section("unchanged"), kept]
        if plan.surplus:
            asking = docker.answers(site.project, plan.surplus)
            body += [section("answers"), docker.where_there(plan.surplus, asking)]
        names = (*site.secrets, REGISTRY_LOGIN) if self.values else ()
        archive = archives.archive(plan.release.files)
        return Script("\n".join(body), site.settings, names, archive)

    def _compose(self, plan: Plan) -> Compose:
        # With all profiles: the hash of a service does not depend on the others.
        staged = plan.builder.project.at(quote(commands.staging(self.mark)))
        return replace(staged, profiles=("*",))

    def _registry(self, plan: Plan) -> list[str]:
        """Whether a tag that can move has moved only the registry knows, and it wants a login."""
        own = sorted({service.image for service in plan.wanted if _is_own(service.image, plan)})
        if not self.values or plan.release.is_immutable:
            return []
        return [section("registry"), registry.digests(own)]

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

    def _commits(self, plan: Plan, comparison: Comparison) -> dict[str, CommitRange | None]:
        """The commits since each release that runs, by its tag."""
        new = plan.release
        tags = {
            container.image.partition("@")[0].rpartition(":")[2]
            for service in plan.wanted
            if service.says_version and (container := comparison.before.get(service.name))
        }
        return {
            tag: self.checkout.commits_between(tag, new.commit or new.tag)
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


def _kept(project: str, handed: Sequence[Handed], hashes: str) -> str:
    """The hashes with the secrets that containers have; if they cannot be had, why."""
    return f"{commands.with_secrets_of(project, handed, hashes)} || {{ {hashes}\nexit 1; }}"


def _failed(plan: Plan, found: Mapping[str, Sequence[str]], result: RemoteResult) -> KtrdrError:
    phase = list(found)[-1] if found else f"directory {commands.TMPFS}"
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
