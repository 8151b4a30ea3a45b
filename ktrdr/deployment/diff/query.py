"""Comparison of hosts with a release, without changing anything on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ktrdr.deployment.deploy import step_errors
from ktrdr.deployment.deploy.comparison import (
    TAG_MOVED,
    Action,
    Comparison,
    ServiceChange,
    compare,
    image_tag,
)
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.diff import changes
from ktrdr.deployment.diff.changes import HostDiff
from ktrdr.deployment.hosts.history import last_good, parse_history
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.parallel import map_hosts
from ktrdr.deployment.releases import compose_file
from ktrdr.deployment.releases.checkout import Checkout, CommitRange
from ktrdr.deployment.releases.registry import REGISTRY_LOGIN
from ktrdr.deployment.scripts import delivery, docker, registry, rotation, sections
from ktrdr.deployment.scripts import difference as commands
from ktrdr.deployment.scripts import history as records
from ktrdr.deployment.scripts import release as archives
from ktrdr.deployment.scripts.difference import Handed
from ktrdr.deployment.scripts.script import Script, quote, render
from ktrdr.deployment.scripts.sections import section
from ktrdr.deployment.ssh.interface import RemoteResult, Transport
from ktrdr.errors import KtrdrError
from ktrdr.secret import Secret

_TIMEOUT_S: Final = 60.0
# Enough to contain the last good release.
_HISTORY_EVENTS: Final = 40


@dataclass(frozen=True, slots=True)
class Differ:
    """Comparison of hosts with a release.

    Attributes:
        checkout: Source of the commits between two releases.
        transport: Connections to the hosts.
        mark: Unique part of the name of the temporary directory on the hosts.
        values: Secret variables of each host by its address. None if the vault is not read: then
            the secrets of the containers count as current, and do not leave the host.
    """

    checkout: Checkout
    transport: Transport
    mark: str
    values: Mapping[str, Mapping[str, Secret]] | None = None

    def diff_hosts(self, plans: Mapping[Host, Plan]) -> list[HostDiff]:
        """Compare each host with its plan; an error on one host does not hide the others."""
        return map_hosts(
            lambda host: self._diff_host(host, plans[host]), list(plans), self.transport
        )

    def build_script(self, plan: Plan) -> Script:
        """Build the script that queries a host."""
        config, host, directory = plan.config, plan.host, commands.staging(self.mark)
        # With all profiles: the hash of a service does not depend on the others.
        project = replace(plan.builder.project.at(quote(directory)), profiles=("*",))
        secrets = (*config.secrets, *plan.product.carried_secrets)
        handed = compose_file.secret_env_map(plan.release.compose_content(host.stack), secrets)
        hashes = project.hashes()
        secret_steps = plan.builder.secret_steps
        current = "\n".join([*secret_steps.current_fingerprints(), hashes])
        with_secrets = commands.with_secrets_of(
            host.project, [Handed(*pair) for pair in handed], current
        )
        # If the hashes cannot be computed with the containers' secrets, the errors show why.
        current_hashes = f"{with_secrets} || {{ {current}\nexit 1; }}"
        body = [
            commands.stage(directory),
            section("files"),
            commands.files(directory, host.workdir, plan.release.files, config.managed_directory),
            section("history"),
            records.read(host.workdir, last=_HISTORY_EVENTS),
            section("containers"),
            docker.containers(host.project),
            section("images"),
            docker.images(sorted({service.image for service in plan.expected})),
            section("delivery"),
            delivery.presence(host.project),
            rotation.unfinished(host.workdir),
        ]
        if self.values is None:
            body += [section("hashes"), current_hashes]
        else:
            # Only the registry knows whether a tag has moved, and it requires a login.
            if not plan.release.is_immutable:
                images = {service.image for service in plan.expected}
                own = sorted(each for each in images if each.endswith(f":{plan.release.tag}"))
                body += [section("registry"), registry.digests(own)]
            body += [*secret_steps.exports(), section("hashes"), hashes]
            body += [section("unchanged"), current_hashes]
        if plan.surplus:
            asking = docker.answers(host.project, plan.surplus)
            body += [section("answers"), docker.where_there(plan.surplus, asking)]
        names = () if self.values is None else (*config.secrets, REGISTRY_LOGIN)
        archive = archives.archive(plan.release.files)
        return Script("\n".join(body), config.settings, names, archive)

    def _diff_host(self, host: Host, plan: Plan) -> HostDiff:
        values = (self.values or {}).get(host.address, {})
        try:
            script = render(self.build_script(plan), values)
            result = self.transport.run(host.address, script, timeout_s=_TIMEOUT_S)
            return self._parse(plan, result)
        except KtrdrError as error:
            return HostDiff(host, plan, error)

    def _parse(self, plan: Plan, result: RemoteResult) -> HostDiff:
        output = sections.split(result.stdout)
        if result.exit_code:
            raise _query_error(plan, output, result)
        files = tuple(changes.parse_file_changes(plan, output.get("files", ())))
        last = last_good(parse_history(output.get("history", ())), plan.service)
        settings = tuple(changes.setting_changes(plan, files, last.settings if last else None))
        changed_settings, rotated = {change.name for change in settings}, _rotated(output)
        comparison = compare(
            plan, {**output, "files": [f"{file.sign} {file.path}" for file in files]}
        )
        moved = _moved_images(output)
        images = {service.name: service.image for service in plan.expected}
        services = []
        for change in comparison.services:
            if change.action is Action.UNCHANGED and images.get(change.service) in moved:
                services.append(ServiceChange(change.service, Action.RECREATED, TAG_MOVED))
            else:
                is_rotated = change.service in rotated
                services.append(
                    changes.with_reason(
                        plan, change, files, changed_settings, is_rotated=is_rotated
                    )
                )
        return HostDiff(
            host=plan.host,
            plan=plan,
            services=tuple(services),
            images=tuple(changes.image_changes(plan, comparison)),
            settings=settings,
            files=files,
            destructive_effects=comparison.destructive_effects,
            is_unfinished=comparison.is_unfinished,
            commits=self._commits(plan, comparison),
            notes=tuple(self._notes(plan, comparison)),
        )

    def _commits(self, plan: Plan, comparison: Comparison) -> dict[str, CommitRange | None]:
        """Return the commits between each running release and the planned one, by tag."""
        new = plan.release
        tags = {
            image_tag(container.image)
            for service in plan.expected
            if service.reports_version and (container := comparison.before.get(service.name))
        }
        return {
            tag: self.checkout.commits_between(tag, new.commit or new.tag)
            for tag in sorted(tags - {new.tag})
        }

    def _notes(self, plan: Plan, comparison: Comparison) -> Iterator[str]:
        name, tag = plan.host.name, plan.release.tag
        if not comparison.before:
            return
        if self.values is None:
            yield "secrets count as unchanged; --secrets compares them with the vault"
            if not plan.release.is_immutable:
                yield f"only --secrets shows whether the tag {tag} has moved"
        if last_good(comparison.history, plan.service) is None:
            yield f"{name} has no record of the inventory's values at its last deploy"
        is_in_memory = bool(comparison.sections.get("delivery"))
        if is_in_memory != plan.config.secrets_in_memory:
            form = "files in memory" if plan.config.secrets_in_memory else "environment variables"
            yield f"the containers of {name} would receive their secrets as {form}"


def _query_error(
    plan: Plan, output: Mapping[str, Sequence[str]], result: RemoteResult
) -> KtrdrError:
    """Return the error of a failed script, by the section in which it failed."""
    phase = list(output)[-1] if output else f"directory {commands.TMPFS}"
    if phase in ("hashes", "unchanged"):
        return step_errors.fetch_error(plan, phase, result)
    return step_errors.query_error(plan, phase, result)


def _rotated(output: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the services whose secrets in the vault differ from those in their containers."""
    vault, current = (output.get(name) for name in ("hashes", "unchanged"))
    return {line.partition(" ")[0] for line in set(vault or ()) - set(current or vault or ())}


def _moved_images(output: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """Return the images whose tag names another image in the registry than on the host."""
    answers = registry.read_digests(output.get("registry", ()))
    text = "\n".join(output.get("images", ()))
    return frozenset(
        image for image, answer in answers.items() if answer.code == 0 and answer.text not in text
    )
