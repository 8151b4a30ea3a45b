"""Comparison of hosts with a release, without changing anything on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ktrdr.deployment.deploy import step_errors
from ktrdr.deployment.deploy.comparison import (
    TAG_MOVED,
    Action,
    Comparison,
    ServiceChange,
    compare,
)
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.diff import changes
from ktrdr.deployment.diff.changes import HostDiff
from ktrdr.deployment.hosts.history import last_good, parse_history
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.images import parse_image_name, parse_images
from ktrdr.deployment.hosts.parallel import map_hosts
from ktrdr.deployment.hosts.registry import parse_registry_answers
from ktrdr.deployment.product import REGISTRY_LOGIN
from ktrdr.deployment.releases.checkout import Checkout, CommitRange
from ktrdr.deployment.releases.release import pack_archive, secret_env_map
from ktrdr.deployment.scripts import sections
from ktrdr.deployment.scripts.script import Script, render, repeat
from ktrdr.deployment.ssh.interface import RemoteResult, Transport
from ktrdr.errors import KtrdrError
from ktrdr.secret import Secret

_TIMEOUT_S: Final = 60.0
# File system in memory for the files of the release, so that they are on no disk.
_TMPFS: Final = "/dev/shm"  # noqa: S108  # the script creates a directory of its own in it
# Usually enough events to contain the last good release.
_HISTORY_EVENTS: Final = 40


@dataclass(frozen=True, slots=True)
class Differ:
    """Comparison of hosts with a release.

    Attributes:
        checkout: Source of the commits between two releases.
        transport: Connections to the hosts.
        mark: Unique part of the name of the temporary directory on the hosts.
        values: Secret variables of each host by its address. None if the vault is not read. Then
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
        host, files = plan.host, plan.release.files
        extensions = plan.product.script_extensions(host)
        secrets = (*plan.config.secrets, *extensions.carried_secrets)
        contents = (plan.release.compose_content(host.stack), *plan.config.files.values())
        deployed = [pair for each in contents for pair in secret_env_map(each, secrets)]
        arguments = (
            # With all profiles: the hash of a service does not depend on the others.
            *plan.stack_options(["*"]),
            *("--staging", f"{_TMPFS}/ktrdr-diff-{self.mark}"),
            *repeat("--image", sorted({service.image for service in plan.expected})),
            *("--history", str(_HISTORY_EVENTS)),
            *("--secrets", "deployed" if self.values is None else "given"),
            *repeat("--deployed-secret", (f"{variable}={name}" for variable, name in deployed)),
            *repeat("--registry", self._movable_images(plan)),
            *("--", *sorted(files)),
        )
        return Script(
            "scripts/diff.sh",
            arguments,
            extensions=(extensions.health, extensions.secrets),
            settings=plan.config.settings,
            secrets=() if self.values is None else (*plan.config.secrets, REGISTRY_LOGIN),
            payload=pack_archive(files),
        )

    def _movable_images(self, plan: Plan) -> list[str]:
        """Return the images whose tag may have moved; a query of the registry needs a login."""
        if self.values is None or plan.release.is_immutable:
            return []
        images = {service.image for service in plan.expected}
        return sorted(image for image in images if image.endswith(f":{plan.release.tag}"))

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
            plan,
            {**output, "files": [f"{file.marker} {file.path}" for file in files]},
            next(iter(output.get("compose", ())), ""),
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
            parse_image_name(container.image).tag
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
        if comparison.compose_note:
            yield comparison.compose_note
        if self.values is None:
            yield "secrets are assumed unchanged; use --secrets to compare them with the vault"
            if not plan.release.is_immutable:
                yield f"use --secrets to check whether the tag {tag} has moved"
        last = last_good(comparison.history, plan.service)
        if last and last.scale is not None and plan.options.scale is None:
            yield f"{name} runs --scale {last.scale} of release {last.id}, which a deploy would end"
        if last is None:
            yield f"{name} has no record of the inventory's values at its last deploy"
        is_in_memory = bool(comparison.sections.get("delivery"))
        if is_in_memory != plan.config.secrets_in_memory:
            form = "files in memory" if plan.config.secrets_in_memory else "environment variables"
            yield f"the containers of {name} would receive their secrets as {form}"


def _query_error(
    plan: Plan, output: Mapping[str, Sequence[str]], result: RemoteResult
) -> KtrdrError:
    """Return the error of a failed script, by the section in which it failed."""
    phase = list(output)[-1] if output else f"directory {_TMPFS}"
    if phase in ("hashes", "unchanged"):
        return step_errors.fetch_error(plan, phase, result)
    return step_errors.query_error(plan, phase, result)


def _rotated(output: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the services whose secrets in the vault differ from those in their containers."""
    vault, current = (output.get(name) for name in ("hashes", "unchanged"))
    return {line.partition(" ")[0] for line in set(vault or ()) - set(current or vault or ())}


def _moved_images(output: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """Return the images whose tag names another image in the registry than on the host."""
    answers = parse_registry_answers(output.get("registry", ()))
    images = parse_images(output.get("images", ()))
    return frozenset(
        name
        for name, answer in answers.items()
        if answer.code == 0 and (image := images.get(name))
        if answer.text not in (image.digest, *(each.partition("@")[2] for each in image.names))
    )
