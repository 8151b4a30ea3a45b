"""Plan of a deploy to one host: its steps, each a remote script, fixed before anything runs.

There are seven steps, and nothing changes before the fifth:

1. lock: exclude other deploys until the end;
2. check: query the host, and report all its problems together;
3. fetch: put the configuration beside the current one, pull images, compare with what runs;
4. start: start a container that does nothing, if anything is to be changed;
5. apply: put the configuration in its place, and let Compose change the services;
6. verify: query the services until they are healthy, or certainly will not be;
7. record: append the outcome to the history; then the lock is released.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from itertools import groupby
from operator import attrgetter
from typing import Final
from urllib.parse import urlsplit

from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.hosts.health import ExpectedService
from ktrdr.deployment.hosts.history import ALL, DeployKind, DeployOutcome, HistoryEntry
from ktrdr.deployment.hosts.host import DeployId, Host, HostConfig, unknown_name_error
from ktrdr.deployment.hosts.lock import LockOwner, acquire_script
from ktrdr.deployment.product import REGISTRY_LOGIN, Product
from ktrdr.deployment.releases.release import (
    ComposeFile,
    Release,
    Service,
    compose_file_name,
    env_file_name,
    host_file_names,
    interpolate,
    pack_archive,
    tmpfs_file_name,
)
from ktrdr.deployment.scripts.script import Call, Program, Script, repeat
from ktrdr.errors import UsageError

UNDO_TIMEOUT_S: Final = 90.0
# The operator's side confirms a deploy as soon as all services are healthy.
_CONFIRM_MARGIN_S: Final = 60
_TOGETHER_S: Final = 7200
# Stopping what is applied, the former release's application, and the wait for its health.
GO_BACK_TIMEOUT_S: Final = 900.0
# The history only grows. A rollback needs fewer events than this.
_HISTORY_EVENTS: Final = 200
# Before a deploy, its outcome is unknown. If an operator runs the steps by hand, this is recorded.
_RUN_BY_HAND: Final = "the steps were run manually, so health was not checked"


class StepKind(StrEnum):
    """Kinds of steps, in the order of a deploy."""

    LOCK = "lock"
    CHECK = "check"
    FETCH = "fetch"
    START = "start"
    APPLY = "apply"
    VERIFY = "verify"
    RECORD = "record"


# Titles for people, and maximum durations (s).
_STEPS: Final = {
    StepKind.LOCK: ("lock", 30.0),
    StepKind.CHECK: ("check the host", 30.0),
    # A first pull transfers gigabytes over a home connection.
    StepKind.FETCH: ("fetch the release", 1800.0),
    StepKind.START: ("start a test container", 60.0),
    # Stopping has its grace periods (60 s for the database), starting waits for dependencies.
    StepKind.APPLY: ("apply", 600.0),
    StepKind.VERIFY: ("wait until healthy", 60.0),
    StepKind.RECORD: ("record", 30.0),
}


@dataclass(frozen=True, slots=True)
class Step:
    """Step of a deploy: a script on a host.

    Attributes:
        kind: Kind of the step, which determines the meaning of its output and of its failure.
        host: Address of the host.
        title: Title for people.
        script: The script; it names the secrets that it needs.
        timeout_s: Maximum duration (s).
        undo: Script that undoes the step, if the deploy ends before a later step has used it.
    """

    kind: StepKind
    host: str
    title: str
    script: Script
    timeout_s: float
    undo: Script | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of a deploy to one host.

    Attributes:
        product: Knowledge of the deployed software.
        config: Configuration of the host.
        options: Options of the command.
        release: Release to deploy.
        entry: History entry that records the deploy.
        lock_owner: Owner of the host's lock during the deploy.
        recovery_owner: Owner of the lock while the host goes back by itself.
        expected: Services to deploy.
        pinned: Digests of images whose tags may have moved, by name and tag.
        dependencies: Services that the one deployed service depends on; empty for all services.
        surplus: Services beyond the scale, to remove if they exist.
        steps: Steps with their scripts.
    """

    product: Product = field(repr=False, compare=False)
    config: HostConfig
    options: DeployOptions
    release: Release
    entry: HistoryEntry
    lock_owner: LockOwner
    recovery_owner: LockOwner
    expected: tuple[ExpectedService, ...]
    pinned: tuple[tuple[str, str], ...]
    dependencies: tuple[ExpectedService, ...]
    surplus: tuple[str, ...]
    steps: tuple[Step, ...] = field(init=False)

    def __post_init__(self) -> None:
        lock = acquire_script(self.host.workdir, self.lock_owner.to_json(), wait_s=0)
        check = Script("scripts/check.sh", self.check_options())
        is_checked = not self.options.skip_validation
        steps = (
            self._step(StepKind.LOCK, lock),
            *([self._step(StepKind.CHECK, check)] if is_checked else []),
            self._fetch(),
            *([self._step(StepKind.START, self.start_script)] if is_checked else []),
            self.apply(),
            self._verify(),
            self.record(replace(self.entry, reason=_RUN_BY_HAND).ended_event()),
        )
        object.__setattr__(self, "steps", steps)

    @property
    def host(self) -> Host:
        return self.config.host

    @property
    def service(self) -> str:
        """Return the one service to deploy, or ``all``."""
        return self.entry.service

    @property
    def may_be_skipped(self) -> bool:
        """Return whether a deploy to several hosts may go on without this one if it is off."""
        is_requested = self.options.skip_unreachable or self.config.is_often_off
        return bool(self.host.node) and is_requested

    def step(self, kind: StepKind) -> Step | None:
        """Return the step of a kind, or None if the plan leaves it out."""
        return next((step for step in self.steps if step.kind is kind), None)

    def _fetch(self) -> Step:
        files = self.release.files
        extensions = self.product.script_extensions(self.host)
        digests = [f"{sha256(files[path]).hexdigest()}  {path}" for path in sorted(files)]
        script = Script(
            "scripts/fetch.sh",
            (
                *self.stack_options(self.entry.profiles),
                *("--digests", "\n".join(digests)),
                *repeat("--pin", (f"{image}@{digest}" for image, digest in self.pinned)),
                *self._image_options(),
                *("--history", str(_HISTORY_EVENTS)),
            ),
            extensions=(extensions.health, extensions.secrets),
            settings=self.config.settings,
            secrets=(*self.config.secrets, REGISTRY_LOGIN),
            payload=pack_archive(files),
        )
        undo = Script("scripts/discard.sh", (self.host.workdir,))
        return self._step(StepKind.FETCH, script, undo)

    @property
    def start_script(self) -> Script:
        """Return the script that starts a container of an image that the host has."""
        images = dict.fromkeys(service.image for service in self.expected)
        return Script("scripts/start_container.sh", (f"{self.host.project}-test", *images))

    def apply(
        self,
        way_back: Plan | None = None,
        ended: HistoryEntry | None = None,
        *,
        is_applied: bool = False,
    ) -> Step:
        """Return the step that hands the deploy over to the host's supervisor.

        Args:
            way_back: Plan of the rollback to a release that the host keeps; None if there is none.
            ended: Entry with what is known of the deploy's end; None for the plan's own.
            is_applied: Whether the release runs already, so that only the way back is left.
        """
        host, ended = self.host, ended or self.entry
        extensions = self.product.script_extensions(host)
        health_s = round(self.options.health_timeout)
        # If hosts may be rolled back together, each waits for all batches. A lost connection ends
        # the wait at once.
        watch_s = _TOGETHER_S if self.options.on_failure == "rollback" else self.options.soak_s
        confirm_s = self.options.confirm_within or health_s + watch_s + _CONFIRM_MARGIN_S
        files = sorted(self.release.files)
        keep = Call("keep_new", "keep_configuration", (host.workdir, ended.configuration, *files))
        calls = [Call("apply_new", ":") if is_applied else self.call("apply_new"), keep]
        options = [
            *("--workdir", host.workdir, "--project", host.project),
            *("--id", ended.id, "--tag", self.release.tag),
            *("--confirm-within", str(round(confirm_s)), "--healthy-within", str(health_s)),
            *("--detached", "yes" if self.options.is_detached else "no"),
            *("--recovery-note", self.recovery_owner.to_json()),
            *("--ended", ended.ended_event()),
            *repeat("--expect", (service.name for service in self.expected)),
        ]
        if way_back:
            calls.append(way_back.call("apply_old", is_kept=True))
            entry = replace(way_back.entry, outcome=DeployOutcome.DEPLOYED)
            options += [
                *("--way-back", way_back.release.tag),
                *("--back-begun", entry.begun_event(), "--back-ended", entry.ended_event()),
                *repeat("--expect-back", (service.name for service in way_back.expected)),
            ]
        program = Program(
            "scripts/supervise.sh",
            tuple(options),
            extensions=(extensions.secrets, extensions.delivery),
            calls=tuple(calls),
        )
        script = Script(
            "scripts/start_deploy.sh",
            (
                *(host.workdir, host.project, self.lock_owner.to_json()),
                *(self.entry.id, self.entry.begun_event()),
            ),
            # The login fetches an image of the former release that somebody has removed.
            secrets=(*self.config.secrets, *self.config.apply_secrets, REGISTRY_LOGIN),
            program=program,
            keeps_lock=True,
        )
        return self._step(StepKind.APPLY, script)

    def call(self, name: str, *, is_kept: bool = False) -> Call:
        """Return the call that applies the release, which the host has just fetched or keeps."""
        kept = (
            *("--kept", self.entry.configuration),
            *repeat("--pin", (f"{image}@{digest}" for image, digest in self.pinned)),
        )
        arguments = (
            *(kept if is_kept else ()),
            *self.stack_options(self.entry.profiles),
            *("--", *sorted(self.release.files)),
        )
        return Call(name, "apply_release", arguments, self.config.settings)

    def _verify(self) -> Step:
        own = (service.name for service in self.expected if service.reports_version)
        health = self.product.script_extensions(self.host).health
        script = Script("scripts/verify.sh", (self.host.project, *own), extensions=(health,))
        return self._step(StepKind.VERIFY, script)

    def record(
        self, *events: str, good: bool = True, ends: bool = True, copied: bool = True
    ) -> Step:
        """Return the step that appends events to the history, and keeps a good configuration.

        Args:
            events: The events.
            good: Whether the release is good.
            ends: Whether this ends the deploy that the host's supervisor may go back from.
            copied: Whether the history is copied to the share.
        """
        arguments = ["--workdir", self.host.workdir, *repeat("--event", events)]
        arguments += repeat("--ends", [self.entry.id] if ends else [])
        arguments += ["--copy", self.history_copy] if copied else []
        if good:
            arguments += ["--keep", self.entry.configuration, "--", *sorted(self.release.files)]
        script = Script("scripts/record.sh", tuple(arguments))
        return self._step(StepKind.RECORD, script)

    @property
    def history_copy(self) -> str:
        """Return the path of the copy of the host's history, which the share has."""
        name = f"{self.host.project}-{self.host.network_name}.jsonl"
        return f"{self.config.shared_directory}/.ktrdr-history/{name}"

    def check_options(self) -> tuple[str, ...]:
        """Return the options with which ``check.sh`` queries the host."""
        config = self.config
        url = urlsplit(config.required_url)
        port = url.port or (443 if url.scheme == "https" else 80)
        api = [f"{url.scheme} {url.hostname} {port} {url.path}"] if url.hostname else []
        return (
            *("--workdir", self.host.workdir),
            *("--shared", config.shared_directory),
            *("--shared-is-mounted", "yes" if config.is_share_mounted else "no"),
            *("--container-uid", str(config.container_uid)),
            *repeat("--memory", [self.host.secrets_root] if config.secrets_in_memory else []),
            *repeat("--resolve", config.peers),
            *repeat("--api", api),
        )

    def stack_options(self, profiles: Iterable[str]) -> tuple[str, ...]:
        """Return the options of ``lib/stack.sh``, with some Compose profiles."""
        config, host = self.config, self.host
        files = [compose_file_name(host.stack)]
        if config.secrets_in_memory:
            files.append(tmpfs_file_name(host.stack))
            self.release.read(files[-1])
        files += [name for name in host_file_names(host.stack) if name in self.release.files]
        # After the pull, the host has our own image, if the deploy includes one of our services.
        own = [service.image for service in self.expected if service.reports_version]
        image_with_shell = (own or [service.image for service in self.expected])[0]
        return (
            *("--project", host.project),
            *("--workdir", host.workdir),
            *repeat("--compose-file", files),
            *("--env-file", env_file_name(host.stack)),
            *repeat("--profile", profiles),
            *repeat("--service", (service.name for service in self.expected)),
            *repeat("--only", [] if self.service == ALL else [self.service]),
            *repeat("--dependency", (service.name for service in self.dependencies)),
            *repeat("--surplus", self.surplus),
            *repeat("--managed-directory", host.managed_directories),
            *("--secrets-delivery", "tmpfs" if config.secrets_in_memory else "env"),
            *("--secrets-directory", host.secrets_directory),
            *("--secrets-image", image_with_shell),
            *repeat("--further-secret", (n for n in host.further_secrets if n in config.secrets)),
            *self.product.script_extensions(host).options,
        )

    def _image_options(self) -> tuple[str, ...]:
        """Return the options that name the images, and how each is pulled.

        An image with an immutable tag is pulled if it is missing, any other one always. An image
        that is pinned to a digest is not pulled by its tag, which may name another image now.
        """
        tag, pinned = f":{self.release.tag}", dict(self.pinned)
        services = (*self.expected, *self.dependencies)
        movable = [
            service.name
            for service in services
            if service.image.endswith(tag)
            and not self.release.is_immutable
            and service.image not in pinned
        ]
        immutable = [service.name for service in services if service.name not in movable]
        return (
            *repeat("--image", sorted({service.image for service in services})),
            *repeat("--pull-always", movable),
            *repeat("--pull-missing", immutable),
        )

    def _step(self, kind: StepKind, script: Script, undo: Script | None = None) -> Step:
        title, timeout_s = _STEPS[kind]
        return Step(kind, self.host.address, title, script, timeout_s, undo)


def make_plan(
    product: Product,
    host: Host,
    release: Release,
    deploy_id: DeployId,
    options: DeployOptions,
    *,
    service: str = ALL,
    kind: DeployKind = DeployKind.DEPLOY,
    redeploy_of: HistoryEntry | None = None,
    rolled_back_from: str = "",
    lock_owner: LockOwner | None = None,
    is_alone: bool = False,
) -> Plan:
    """Plan a deploy to one host.

    Args:
        product: Knowledge of the deployed software.
        host: The host.
        release: Release to deploy.
        deploy_id: Identity of the deploy.
        options: Options of the command.
        service: Service to deploy, or ``all``.
        kind: Kind of the deploy.
        redeploy_of: Earlier deploy that is repeated, with its settings, profiles and digests.
        rolled_back_from: Id of the release that a rollback replaces.
        lock_owner: Owner of the lock, if a deploy that holds it starts this one.
        is_alone: Whether no host of a lower rank is deployed before it, so that the URL that it
            requires must answer already.

    Raises:
        UsageError: The service or profile does not exist, or the service needs a profile that is
            not selected; the message lists the valid names.
        ConfigurationError: The release has no such stack.
    """
    config = product.configure(host, release, options.scale, is_kept=redeploy_of is not None)
    release = release.with_host_files(host.stack, config.files)
    if redeploy_of:
        config = replace(config, settings=tuple(redeploy_of.settings.items()))
    if not is_alone:
        config = replace(config, required_url="")
    stack = release.parse_compose_file(host.stack)
    profiles = _select_profiles(config, options, stack, redeploy_of)
    variables = {**release.settings(host.stack), **dict(config.settings)}

    def expect(services: Iterable[Service]) -> tuple[ExpectedService, ...]:
        return tuple(
            product.expected_service(each, config, interpolate(each.image, variables))
            for each in services
        )

    expected = expect(_select_services(stack, service, profiles))
    dependencies = stack.dependencies_of(service) if service != ALL else ()
    entry = HistoryEntry(
        deploy=deploy_id,
        kind=kind,
        service=service,
        tag=release.tag,
        commit=release.commit,
        configuration=release.configuration_hash,
        profiles=profiles,
        settings=dict(config.settings),
        rolled_back_from=rolled_back_from,
        scale=redeploy_of.scale if redeploy_of else options.scale,
    )
    own_lock = LockOwner(deploy_id, f"{kind} of {release.tag}")
    return Plan(
        product=product,
        config=config,
        options=options,
        release=release,
        entry=entry,
        lock_owner=lock_owner or own_lock,
        recovery_owner=own_lock.for_recovery(),
        expected=expected,
        pinned=_recorded_digests(redeploy_of, expected),
        dependencies=expect(each for each in stack.services if each.name in dependencies),
        surplus=_find_surplus(config, stack, service, profiles),
    )


def split_plans(plans: Sequence[Plan], unchanged: Collection[str] = ()) -> list[list[Plan]]:
    """Split plans into batches: the core, then the worker nodes as the options say.

    Args:
        plans: The plans.
        unchanged: Names of hosts without changes. They would be no proof of a release, so they
            come in addition to the first batch.
    """
    batches: list[list[Plan]] = []
    by_rank = attrgetter("config.rank")
    for rank, group in groupby(sorted(plans, key=by_rank), key=by_rank):
        wave = list(group)
        changing = [plan for plan in wave if plan.host.name not in unchanged]
        split = wave[0].options.split(changing) if rank and changing else [changing]
        split[0] += [plan for plan in wave if plan.host.name in unchanged]
        batches += split
    return batches


def _select_profiles(
    config: HostConfig,
    options: DeployOptions,
    stack: ComposeFile,
    redeploy_of: HistoryEntry | None,
) -> tuple[str, ...]:
    if redeploy_of:
        return tuple(name for name in redeploy_of.profiles if name in stack.profiles)
    for profile in options.profiles:
        if profile not in stack.profiles:
            raise unknown_name_error("profile", profile, stack.profiles)
    # An earlier release may not have them.
    known = [profile for profile in config.scale_profiles if profile in stack.profiles]
    return tuple(dict.fromkeys([*known, *options.profiles]))


def _select_services(stack: ComposeFile, name: str, profiles: Iterable[str]) -> tuple[Service, ...]:
    enabled = stack.enabled_services(profiles)
    if name == ALL:
        return enabled
    service = next((service for service in stack.services if service.name == name), None)
    if service is None:
        raise unknown_name_error("service", name, [*stack.names, ALL])
    if service not in enabled:
        raise UsageError(
            f"the service {name} runs only with a profile that is not selected",
            hint=f"Select a profile with --profile; {name} has: {', '.join(service.profiles)}.",
        )
    return (service,)


def _find_surplus(
    config: HostConfig, stack: ComposeFile, service: str, profiles: Iterable[str]
) -> tuple[str, ...]:
    """Return the services of unselected profiles, which express the scale of worker nodes."""
    if service != ALL:
        return ()
    kept = {each.name for each in stack.enabled_services(profiles)}
    removable = stack.names if config.host.node else dict(config.unwanted)
    return tuple(name for name in removable if name not in kept)


def _recorded_digests(
    redeploy_of: HistoryEntry | None, expected: Iterable[ExpectedService]
) -> tuple[tuple[str, str], ...]:
    """Return the images to pin: those of an earlier deploy whose digest was recorded.

    An image whose name contains a digest needs none.
    """
    digests: Mapping[str, str] = redeploy_of.images if redeploy_of else {}
    images = dict.fromkeys(service.image for service in expected)
    return tuple(
        (image, digests[image]) for image in images if digests.get(image) and "@" not in image
    )
