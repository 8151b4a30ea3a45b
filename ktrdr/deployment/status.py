"""Status of hosts: what runs, what was deployed, and the drift between both, without secrets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.hosts import containers as docker_output
from ktrdr.deployment.hosts.actions import DRAIN, HistoryAction, parse_actions
from ktrdr.deployment.hosts.containers import Container
from ktrdr.deployment.hosts.health import ExpectedService, HealthProblem, find_problems
from ktrdr.deployment.hosts.history import (
    ALL,
    DeployOutcome,
    HistoryEntry,
    last_good,
    missing_way_back,
    newest_release,
    parse_history,
)
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.images import parse_images
from ktrdr.deployment.hosts.lock import LockOwner, parse_lock_state
from ktrdr.deployment.hosts.parallel import map_hosts
from ktrdr.deployment.hosts.queries import docker_unavailable
from ktrdr.deployment.scripts import sections
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.interface import Transport
from ktrdr.errors import KtrdrError

_TIMEOUT_S: Final = 20.0
# A deploy records two events. `ktrdr deploy history` shows older ones.
_HISTORY_EVENTS: Final = 100
# If a container started within this time, all its restarts count as those of a crash loop. Docker
# waits up to a minute before it restarts a container again.
_RECENT_START: Final = timedelta(minutes=2)
# Allowed difference between the clock of the operator, which dates releases, and that of the host.
# The check before a deploy allows half of it. Needed only for releases without recorded containers.
_CLOCK_TOLERANCE: Final = timedelta(seconds=60)
_FILE_CHANGES: Final = {"~": "differs from", "-": "is missing, but was in", "+": "is not in"}
_MAX_LISTED_FILES: Final = 5


@dataclass(frozen=True, slots=True)
class Disk:
    """File system of a host.

    Attributes:
        directory: Directory on it that a deploy uses.
        size_kb: Its size (KiB).
        free_kb: Its free space (KiB).
    """

    directory: str
    size_kb: int
    free_kb: int


@dataclass(frozen=True, slots=True)
class HostStatus:
    """Status of one host.

    Attributes:
        host: The host.
        now: Time on the host.
        containers: Its containers, sorted by service.
        digests: Possible digests of each image that a container runs, by its id in Docker's store.
        problems: Services that are not healthy.
        drift: Differences from the last release, one sentence each.
        history: Its deploys, oldest first.
        lock_owner: Owner of its lock; None if the lock is free.
        disks: Its file systems.
        delivered_secrets: Whether each consumer's secrets are in the host's memory; empty with
            another delivery.
        error: Why the host, or a part of it, could not be queried.
        is_unfinished: Whether its files say that a deploy did not finish its changes.
        kept: Archives of the configurations that it keeps; None if they are unknown.
        actions: Its latest actions that are no deploys, oldest first.
        newest_tag: Tag of the newest good release of all queried hosts, for a worker node.
    """

    host: Host
    now: datetime | None = None
    containers: tuple[Container, ...] = ()
    digests: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    problems: tuple[HealthProblem, ...] = ()
    drift: tuple[str, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    lock_owner: LockOwner | None = None
    disks: tuple[Disk, ...] = ()
    delivered_secrets: Mapping[str, bool] = field(default_factory=dict)
    error: KtrdrError | None = None
    is_unfinished: bool = False
    kept: tuple[str, ...] | None = None
    actions: tuple[HistoryAction, ...] = ()
    newest_tag: str = ""

    @property
    def last_deploy(self) -> HistoryEntry | None:
        """Return the last deploy, or None if there was none."""
        return self.history[-1] if self.history else None

    @property
    def lacks_secrets(self) -> bool:
        """Return whether the host's memory lacks secrets, as after a reboot."""
        return not all(self.delivered_secrets.values())

    @property
    def unfinished(self) -> list[tuple[str, str]]:
        """Return what was cut off and does not run any more, each with its remedy."""
        last, again = self.last_deploy, self._deploy_again
        found = []
        if self.is_unfinished or (last and last.outcome is DeployOutcome.CUT_OFF):
            what = f"{last.kind} of {last.tag}" if last else "a deploy"
            found.append((what, f"run `{again}`, or `ktrdr deploy rollback {self.host.name}`"))
        for action in {each.kind: each for each in self.actions}.values():
            is_drain = action.kind == DRAIN
            is_current = is_drain or not last or action.deploy.at > last.deploy.at
            if action.outcome is DeployOutcome.CUT_OFF and is_current:
                remedy = f"run `{again}`, which ends it" if is_drain else "run the command again"
                found.append((str(action), remedy))
        return [] if self.lock_owner else found

    @property
    def next_steps(self) -> list[tuple[str, str]]:
        """Return each state that needs the operator, with the command that ends it."""
        last, again = self.last_deploy, self._deploy_again
        steps = [("unfinished", f"{what} did not finish: {todo}") for what, todo in self.unfinished]
        if self.lacks_secrets:
            steps.append(("secrets", f"this host was restarted: run `{again}`"))
        if last and last.outcome in (DeployOutcome.FAILED, DeployOutcome.INTERRUPTED):
            back = f"`ktrdr deploy rollback {self.host.name}`"
            steps.append(
                (last.outcome.value, f"{last.tag} stays in place: run `{again}`, or {back}")
            )
        if self.containers and (reason := missing_way_back(self.history, ALL, self.kept)):
            steps.append(("no way back", f"{reason}: run `{again}`, which keeps what runs"))
        elif self.drift:
            steps.append(("drifted", f"see `ktrdr deploy diff {self.host.name}`, run `{again}`"))
        if last and last.scale is not None:
            lasts = f"--scale {last.scale} ends with the next deploy without it"
            steps.append(("scale", f"{lasts}: set `scale` in the inventory to keep it"))
        if last and last.outcome.is_good and self.newest_tag not in ("", last.tag):
            newer = again.replace(last.tag, self.newest_tag)
            steps.append(("behind", f"other hosts run {self.newest_tag}: run `{newer}`"))
        return steps

    @property
    def _deploy_again(self) -> str:
        tag = f" --tag {self.last_deploy.tag}" if self.last_deploy else ""
        return f"ktrdr deploy {self.host.name}{'' if self.host.node else ' all'}{tag}"

    def image_digest(self, container: Container) -> str:
        """Return the digest of a container's image; empty if no registry gave it one."""
        return next(iter(self.digests.get(container.store_image_id, ())), "")


def collect_status(
    hosts: Sequence[Host], transport: Transport, clock: Clock | None = None
) -> list[HostStatus]:
    """Return the status of each host; an error on one host does not hide the others."""
    local_clock = clock or Clock()
    found = map_hosts(lambda host: _fetch_status(host, transport, local_clock), hosts, transport)
    newest = newest_release(entry for each in found for entry in each.history)
    tag = newest.tag if newest else ""
    return [replace(each, newest_tag=tag) if each.host.node else each for each in found]


def find_drift(
    entries: Sequence[HistoryEntry],
    containers: Sequence[Container],
    digests: Mapping[str, Sequence[str]],
    files: Iterable[str],
) -> tuple[str, ...]:
    """Return the differences between a host and its last release, one sentence each.

    Args:
        entries: The host's history, oldest first.
        containers: The containers that exist.
        digests: Possible digests of the images that run, by the images' ids in Docker's store.
        files: Files that differ from the release: ``~``, ``-`` or ``+``, and the name.
    """
    drift: list[str] = []
    for container in containers:
        release = last_good(entries, container.service)
        if release is not None:
            drift += _container_drift(container, release, digests, entries[-1])
    return (*drift, *_missing_services(entries, containers), *_file_drift(files))


def _fetch_status(host: Host, transport: Transport, clock: Clock) -> HostStatus:
    arguments = (host.workdir, host.project, host.secrets_directory, str(_HISTORY_EVENTS))
    script = render(Script("scripts/status.sh", arguments), {})
    try:
        result = transport.run(host.address, script, timeout_s=_TIMEOUT_S)
        # The script prints the parts that need no Docker first.
        docker_error = docker_unavailable(host, result) if result.exit_code else None
        output = sections.split(result.stdout)
        lines = output.get("history", ())
        history = parse_history(lines)
        # Without the containers, no drift is reported.
        files = () if docker_error else _fetch_changed_files(host, history, transport)
    except KtrdrError as error:
        return HostStatus(host, error=error)
    by_service = docker_output.parse_containers(output.get("containers", ()))
    containers = tuple(by_service[service] for service in sorted(by_service))
    images = parse_images(output.get("images", ()))
    digests = {
        each.store_image_id: image.registry_digests(each.image)
        for each in containers
        if (image := images.get(each.store_image_id))
    }
    now = docker_output.parse_clock(output.get("clock", ())) or clock.now()
    return HostStatus(
        host=host,
        now=now,
        containers=containers,
        digests=digests,
        problems=_find_problems(containers, now),
        drift=() if docker_error else find_drift(history, containers, digests, files),
        history=history,
        lock_owner=parse_lock_state(output.get("lock", [])),
        disks=_parse_disks(output.get("disk", ())),
        delivered_secrets=_parse_delivery(output.get("delivery", ())),
        error=docker_error,
        is_unfinished=bool(output.get("unfinished")),
        kept=tuple(output["kept"]) if "kept" in output else None,
        actions=parse_actions(lines),
    )


def _fetch_changed_files(
    host: Host, history: Sequence[HistoryEntry], transport: Transport
) -> Sequence[str]:
    """Return the files that differ from those of the last good release."""
    release = last_good(history, ALL)
    if release is None:
        return ()
    arguments = (host.workdir, release.configuration, *host.managed_directories)
    script = render(Script("scripts/changed_files.sh", arguments), {})
    result = transport.run(host.address, script, timeout_s=_TIMEOUT_S)
    return sections.split(result.stdout).get("files", ())


def _find_problems(containers: Sequence[Container], now: datetime) -> tuple[HealthProblem, ...]:
    """Return the services that are not healthy, except those that are still starting.

    A service in a crash loop may run at the moment of the query, so its restarts count.
    """
    problems = find_problems(
        [
            ExpectedService(each.service, each.image, reports_version=False, worker_url=None)
            for each in containers
        ],
        {each.service: each for each in containers},
        {},
        check_report=lambda *_: None,
        tag="",
        restarts_before={
            each.id: 0 if now - each.started_at < _RECENT_START else each.restarts
            for each in containers
        },
        now=now,
    )
    starting = {
        each.service
        for each in containers
        if each.is_running and each.health != "unhealthy" and not each.is_unfit
    }
    return tuple(each for each in problems if each.is_fatal or each.service not in starting)


def _parse_delivery(lines: Sequence[str]) -> dict[str, bool]:
    """Parse lines ``present NAME`` and ``absent NAME``."""
    pairs = (line.partition(" ") for line in lines)
    return {name: word == "present" for word, _, name in pairs if word in ("present", "absent")}


def _parse_disks(lines: Sequence[str]) -> tuple[Disk, ...]:
    disks: dict[tuple[int, int], Disk] = {}
    for line in lines:
        size, free, directory = [*line.split(" ", 2), "", ""][:3]
        if size.isdecimal() and free.isdecimal():
            # Two directories on one file system are listed once.
            disks.setdefault((int(size), int(free)), Disk(directory, int(size), int(free)))
    return tuple(disks.values())


def _container_drift(
    container: Container,
    release: HistoryEntry,
    digests: Mapping[str, Sequence[str]],
    last: HistoryEntry,
) -> Iterator[str]:
    name, image = container.service, container.image
    if release.images and image not in release.images:
        yield f"{name} runs {_short_name(image)}, which is not in release {release.id}"
    elif (
        release.had_other_image(image, digests.get(container.store_image_id, ()))
        # Another index of the same manifest leaves the release's containers as they are.
        and release.containers.get(name) != container.short_id
    ):
        yield (
            f"{name} runs a different image with the tag {_short_name(image)} "
            f"than release {release.id}"
        )
    elif not _is_left_by(last, container):
        yield f"{name} was recreated by hand after release {last.id}"


def _is_left_by(last: HistoryEntry, container: Container) -> bool:
    """Return whether the container existed at the end of the last deploy, as far as is known."""
    if last.containers:
        return last.containers.get(container.service) == container.short_id
    if last.duration_s is None:
        # A deploy that was cut off may have created any container.
        return True
    ended = last.deploy.at + timedelta(seconds=last.duration_s)
    return container.created_at <= ended + _CLOCK_TOLERANCE


def _missing_services(
    entries: Sequence[HistoryEntry], containers: Sequence[Container]
) -> Iterator[str]:
    """Yield the services of the last release of the whole stack that have no container."""
    release = last_good([each for each in entries if each.service == ALL], ALL)
    recorded = release.containers if release else {}
    for service in sorted(recorded.keys() - {each.service for each in containers}):
        yield f"{service} has no container, unlike in release {release and release.id}"


def _file_drift(lines: Iterable[str]) -> list[str]:
    changes = [line.partition(" ") for line in lines]
    drift = [
        f"{file} {_FILE_CHANGES[sign]} the release"
        for sign, _, file in changes
        if sign in _FILE_CHANGES
    ]
    if len(drift) <= _MAX_LISTED_FILES:
        return drift
    return [*drift[:_MAX_LISTED_FILES], f"{len(drift) - _MAX_LISTED_FILES} more files differ"]


def _short_name(image: str) -> str:
    return image.partition("@")[0].rpartition("/")[2]
