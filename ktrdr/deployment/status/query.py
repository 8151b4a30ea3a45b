"""Looks at hosts, all at once, and changes nothing; needs no secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy.steps import Wanted
from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.homelab.secret_steps import secrets_directory
from ktrdr.deployment.hosts import containers as reading
from ktrdr.deployment.hosts import health, history, lock
from ktrdr.deployment.hosts.containers import Container
from ktrdr.deployment.hosts.health import Trouble
from ktrdr.deployment.hosts.history import Entry
from ktrdr.deployment.hosts.lock import Owner
from ktrdr.deployment.releases.release import MONITORING
from ktrdr.deployment.scripts import sections
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.interface import RemoteResult, Transport
from ktrdr.deployment.status import drift
from ktrdr.errors import HostNotReady, KtrdrError

TIMEOUT_S: Final = 20.0
MAX_AT_ONCE: Final = 16
# Each deploy writes two; what is further back is for `ktrdr deploy history`.
_EVENTS: Final = 100
# One that was started so lately is held to how often Docker has restarted it. Docker itself waits
# for up to a minute before it tries again.
_LATELY: Final = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system of the host.

    Attributes:
        directory: What on it concerns us.
        size_kb: Its size (KiB).
        free_kb: What is free of it (KiB).
    """

    directory: str
    size_kb: int
    free_kb: int


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What was seen of a host.

    Attributes:
        place: The host.
        now: The time there.
        containers: Its containers, by the names of their services.
        digests: The digest of each image that one of them runs, by the image's id.
        troubles: The services that are not well.
        drift: What is not as the last release left it, each in a few words.
        history: What was deployed, oldest first.
        owner: Who has the lock.
        disks: Its file systems.
        delivery: Where secrets are delivered in the host's memory, whether they are there, by who
            is to get them; empty where they are delivered another way.
        error: Why it could not be seen, or not all of it.
    """

    place: Place
    now: datetime | None = None
    containers: tuple[Container, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    troubles: tuple[Trouble, ...] = ()
    drift: tuple[str, ...] = ()
    history: tuple[Entry, ...] = ()
    owner: Owner | None = None
    disks: tuple[Disk, ...] = ()
    delivery: Mapping[str, bool] = field(default_factory=dict)
    error: KtrdrError | None = None

    @property
    def fault(self) -> str | None:
        """Why it could not be seen, in words."""
        return self.error.message if self.error else None

    @property
    def last(self) -> Entry | None:
        """What was done there last."""
        return self.history[-1] if self.history else None

    @property
    def lacks_secrets(self) -> bool:
        """Whether the host was restarted since its last deploy, and its secrets are gone."""
        return not all(self.delivery.values())

    def digest(self, container: Container) -> str:
        """The digest of the image that a container runs; empty where no registry gave it one."""
        return self.digests.get(container.image_id, "")


def survey(
    places: Sequence[Place], transport: Transport, clock: Clock | None = None
) -> list[Surveyed]:
    """Looks at every host; one that cannot be looked at does not hide the others."""
    time = clock or Clock()
    with ThreadPoolExecutor(max_workers=MAX_AT_ONCE) as pool:
        return list(pool.map(lambda place: _look(place, transport, time), places))


def _look(place: Place, transport: Transport, clock: Clock) -> Surveyed:
    directory = secrets_directory(place.project)
    arguments = (place.workdir, place.project, directory, str(_EVENTS))
    script = render(Script("scripts/status.sh", arguments), {})
    try:
        result = transport.run(place.host, script, timeout_s=TIMEOUT_S)
        found = sections.split(result.stdout)
        entries = history.read(found.get("history", ()))
        fault = not_asked(place, result) if result.exit_code else None
        # Of containers that cannot be seen nothing is claimed.
        changed = () if fault else _changed_files(place, entries, transport)
    except KtrdrError as error:
        return Surveyed(place, error=error)
    return _read(place, found, entries, changed, clock, fault)


def _changed_files(place: Place, entries: Sequence[Entry], transport: Transport) -> Sequence[str]:
    """Return the files that differ from those of the last good release."""
    good = history.running(entries, history.ALL)
    if good is None:
        return ()
    sweep = (MONITORING.rstrip("/"),) if place.target == "core" else ()
    script = Script("scripts/changed_files.sh", (place.workdir, good.configuration, *sweep))
    result = transport.run(place.host, render(script, {}), timeout_s=TIMEOUT_S)
    return sections.split(result.stdout).get("files", ())


def _read(
    place: Place,
    found: Mapping[str, list[str]],
    entries: tuple[Entry, ...],
    changed: Sequence[str],
    clock: Clock,
    error: KtrdrError | None,
) -> Surveyed:
    there = reading.read_containers(found.get("containers", ()))
    images = reading.read_images(found.get("images", ()))
    digests = {image: name.partition("@")[2] for name, image in images.items() if "@" in name}
    now = reading.read_clock(found.get("clock", ())) or clock.now()
    ours = tuple(there[service] for service in sorted(there))
    return Surveyed(
        place=place,
        now=now,
        containers=ours,
        digests=digests,
        troubles=_troubles(ours, now),
        drift=() if error else drift.of(entries, ours, digests, changed),
        history=entries,
        owner=lock.read_shown(found.get("lock", [])),
        disks=_disks(found.get("disk", ())),
        delivery=_delivery(found.get("delivery", ())),
        error=error,
    )


def _troubles(containers: Sequence[Container], now: datetime) -> tuple[Trouble, ...]:
    """The services that are not well; those that are only starting may yet be.

    Docker starts one that has ended again and again, and may be looked at in a moment when it runs.
    """
    found = health.judge(
        [
            Wanted(each.service, each.image, says_version=False, worker_url=None)
            for each in containers
        ],
        {each.service: each for each in containers},
        {},
        tag="",
        restarts_before={
            each.id: 0 if now - each.started_at < _LATELY else each.restarts for each in containers
        },
        now=now,
    )
    starting = {
        each.service for each in containers if each.is_running and each.health != "unhealthy"
    }
    return tuple(each for each in found if each.final or each.service not in starting)


def _delivery(lines: Sequence[str]) -> dict[str, bool]:
    """From ``present NAME`` and ``absent NAME``."""
    pairs = (line.partition(" ") for line in lines)
    return {name: word == "present" for word, _, name in pairs if word in ("present", "absent")}


def _disks(lines: Sequence[str]) -> tuple[Disk, ...]:
    found: dict[tuple[int, int], Disk] = {}
    for line in lines:
        size, free, directory = [*line.split(" ", 2), "", ""][:3]
        if size.isdecimal() and free.isdecimal():
            # Two directories on one file system are told of once.
            found.setdefault((int(size), int(free)), Disk(directory, int(size), int(free)))
    return tuple(found.values())


def not_asked(place: Place, result: RemoteResult) -> HostNotReady:
    """Why a host that was reached could not be looked at."""
    reason = result.stderr.strip().splitlines() or ["it gave no reason"]
    return HostNotReady(
        f"Docker on {place.host} cannot be asked: {reason[-1]}",
        hint="Check on the host that Docker runs and that this user may use it: `docker ps`.",
    )
