"""What services write, of several hosts, in one stream in the order of time."""

from __future__ import annotations

import heapq
import queue
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from ktrdr.deployment.homelab.host_config import unknown
from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.scripts.script import Script, render, repeat
from ktrdr.deployment.ssh.interface import Stream, Transport
from ktrdr.deployment.status.query import MAX_AT_ONCE, not_asked
from ktrdr.errors import Interrupted, KtrdrError, UsageError
from ktrdr.secret import hide_assigned

# Reading a whole history may take its time.
_READ_TIMEOUT_S: Final = 600.0
# A follower ends by itself after an hour, and is begun anew where it stopped.
_FOLLOW_TIMEOUT_S: Final = 3600.0 + 300.0
# What logs.sh prints before the name of a service, and once all older lines have been printed.
NAMED: Final = "#"
LIVE: Final = "## live"
# A line is held back for so long, in case an older one arrives from another host.
WINDOW_S: Final = 0.3
_PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
# Lines that arrive again, where an old look and a new one overlap, are known by these.
_REMEMBERED: Final = 5000
_LINE: Final = re.compile(
    r"(?P<service>[^ /]+)/(?P<container>[0-9a-f]+) (?:(?P<stamp>\d{4}-\S+Z) ?)?(?P<text>.*)", re.S
)
_SPAN: Final = re.compile(r"(?:\d+[smhd])+")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True, order=True)
class LogLine:
    """One line that a service has written.

    Attributes:
        stamp: When, by the host's clock, as Docker writes it: in UTC, so that texts sort as times.
        place: Where.
        service: Which service.
        container: The beginning of its container's id.
        text: The line.
    """

    stamp: str
    place: Place = field(compare=False)
    service: str = field(compare=False)
    container: str = field(compare=False)
    text: str = field(compare=False)

    @property
    def moment(self) -> datetime:
        """When it was written, to the microsecond."""
        return datetime.fromisoformat(self.stamp[:26].removesuffix("Z")).replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Lost:
    """A host that cannot be looked at now, and whether it is tried again."""

    place: Place
    error: KtrdrError
    retried: bool = False


@dataclass(frozen=True, slots=True)
class Back:
    """A host that was lost is there again; nothing that it wrote meanwhile is left out."""

    place: Place


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to show.

    Attributes:
        services: The services; none means all.
        since: From when, as Docker takes it; see `read_since`.
        lines: The last so many of each container, or None for all.
        pattern: What a line has to hold.
    """

    services: tuple[str, ...] = ()
    since: str = ""
    lines: int | None = None
    pattern: re.Pattern[str] | None = None

    def fits(self, line: LogLine) -> bool:
        """Whether the line is one of those wanted."""
        return self.pattern is None or self.pattern.search(line.text) is not None


Event = LogLine | Lost | Back


def read_since(text: str) -> str:
    """A span such as ``10m`` or ``1h30m``, or a time, as ``docker logs --since`` takes it.

    A time without a zone is one of this machine's.

    Raises:
        UsageError: It is neither.
    """
    if _SPAN.fullmatch(text):
        parts = re.findall(r"(\d+)([smhd])", text)
        return f"{sum(int(number) * _UNITS[unit] for number, unit in parts)}s"
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise UsageError(
            f"{text!r} is neither a span nor a time",
            hint="Write 10m, 2h, 1d, or a time such as 2026-11-24T05:30 (of this machine) or "
            "2026-11-24T05:30Z.",
        ) from exc
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read(places: Sequence[Place], transport: Transport, wanted: Wanted) -> Iterator[Event]:
    """What was written until now: first the hosts that could not be asked, then the lines.

    Raises:
        UsageError: No host has such a service.
    """
    arrived: queue.SimpleQueue[_Arrived] = queue.SimpleQueue()
    sources = [_Source(place, transport, wanted, arrived.put) for place in places]
    with ThreadPoolExecutor(max_workers=MAX_AT_ONCE) as pool:
        list(pool.map(_Source.read, sources))
    _check_services(sources, wanted)
    found = [arrived.get()[1] for _ in range(arrived.qsize())]
    yield from (what for what in found if isinstance(what, Lost))
    yield from sorted(what for what in found if isinstance(what, LogLine))


def follow(places: Sequence[Place], transport: Transport, wanted: Wanted) -> Iterator[Event]:
    """The same, and then all that is written, until the transport is closed.

    A host that is lost is tried again until it is back; one that was never reached is not.

    Raises:
        UsageError: No host has such a service.
    """
    arriving: queue.SimpleQueue[_Arrived] = queue.SimpleQueue()
    sources = [_Source(place, transport, wanted, arriving.put) for place in places]
    for source in sources:
        name = f"logs {source.place.name}"
        threading.Thread(target=source.follow, name=name, daemon=True).start()
    held: list[_Held] = []
    yield from _first_look(sources, arriving, held)
    _check_services(sources, wanted)
    yield from _merged(sources, arriving, held)


class _Begun:
    """All older lines of a source have arrived."""


class _Ended:
    """Nothing more will come of a source."""


_Told = LogLine | Lost | Back | _Begun | _Ended
_Arrived = tuple["_Source", _Told]


class _Source:
    """One host's lines.

    Attributes:
        place: The host.
        services: The services that are there.
        began: Whether it was reached at all, and has sent all older lines.
    """

    def __init__(
        self, place: Place, transport: Transport, wanted: Wanted, tell: Callable[[_Arrived], None]
    ) -> None:
        self.place = place
        self.services: set[str] = set()
        self._transport = transport
        self._wanted = wanted
        self._arrived = tell
        self._lines = _Lines(place)
        self.began = False
        self._lost = False
        self._pauses = iter(_PAUSES_S)

    def read(self) -> None:
        """Tells of what was written until now."""
        try:
            self._run(self._wanted, _READ_TIMEOUT_S, follow=False)
        except KtrdrError as error:
            self._tell(Lost(self.place, error))

    def follow(self) -> None:
        """Tells of all lines until the transport is closed, or of a host never reached."""
        while self._follow_once():
            pass
        self._tell(_Ended())

    def _follow_once(self) -> bool:
        """Whether to go on."""
        try:
            self._run(self._now_wanted(), _FOLLOW_TIMEOUT_S, follow=True)
        except Interrupted:
            return False
        except KtrdrError as error:
            if not self._lost:
                self._tell(Lost(self.place, error, retried=self.began))
            self._lost = True
            if self.began:
                time.sleep(next(self._pauses, _PAUSES_S[-1]))
        return self.began

    def _now_wanted(self) -> Wanted:
        """After an interruption: everything since the last line."""
        if not self._lines.latest:
            return self._wanted
        return replace(self._wanted, since=self._lines.latest, lines=None)

    def _run(self, wanted: Wanted, timeout_s: float, *, follow: bool) -> None:
        arguments = (
            *("--project", self.place.project),
            *("--lines", str(wanted.lines or "all")),
            *repeat("--since", [wanted.since] if wanted.since else []),
            *("--follow", "yes" if follow else "no"),
            *("--", *wanted.services),
        )
        script = render(Script("scripts/logs.sh", arguments), {})
        result = self._transport.run(
            self.place.host, script, timeout_s=timeout_s, on_line=self._take
        )
        if result.exit_code:
            raise not_asked(self.place, result)

    def _take(self, stream: Stream, text: str) -> None:
        if stream == "stderr":
            return
        if text == LIVE:
            self._note_begin()
        elif text.startswith(NAMED):
            self.services.add(text.removeprefix(NAMED))
        elif (line := self._lines.read(hide_assigned(text))) and self._wanted.fits(line):
            self._tell(line)

    def _note_begin(self) -> None:
        self._pauses = iter(_PAUSES_S)
        if self._lost:
            self._lost = False
            self._tell(Back(self.place))
        if not self.began:
            self.began = True
            self._tell(_Begun())

    def _tell(self, what: _Told) -> None:
        self._arrived((self, what))


class _Lines:
    """Reads the lines of one host, each once.

    Attributes:
        latest: The time of the latest, or nothing.
    """

    def __init__(self, place: Place) -> None:
        self.latest = ""
        self._place = place
        self._seen: OrderedDict[tuple[str, ...], None] = OrderedDict()
        self._last: dict[str, LogLine | None] = {}

    def read(self, text: str) -> LogLine | None:
        """The line, or None if it is none or has come before."""
        found = _LINE.fullmatch(text)
        if not found:
            return None
        service, container, stamp, rest = found.group("service", "container", "stamp", "text")
        if stamp is None:
            # A further piece of a long line.
            before = self._last.get(container)
            return replace(before, text=rest) if before else None
        is_new = self._is_new(container, stamp, rest)
        line = LogLine(stamp, self._place, service, container, rest) if is_new else None
        self._last[container] = line
        self.latest = max(self.latest, stamp)
        return line

    def _is_new(self, *key: str) -> bool:
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return True


def _first_look(
    sources: Sequence[_Source], arriving: queue.SimpleQueue[_Arrived], held: list[_Held]
) -> Iterator[Event]:
    """Holds back all lines until every host has sent the older ones, or is known to be away."""
    waiting = set(sources)
    while waiting:
        source, what = arriving.get()
        if isinstance(what, LogLine):
            heapq.heappush(held, _Held(what, time.monotonic()))
        elif isinstance(what, _Begun | _Ended):
            waiting.discard(source)
        else:
            yield what


def _merged(
    sources: Sequence[_Source], arriving: queue.SimpleQueue[_Arrived], held: list[_Held]
) -> Iterator[Event]:
    """New lines, each held back for a moment, until all hosts have ended."""
    living = {source for source in sources if source.began}
    look_again = 0.0
    while living:
        try:
            source, what = arriving.get(timeout=WINDOW_S / 3 if held else None)
        except queue.Empty:
            pass
        else:
            if isinstance(what, LogLine):
                heapq.heappush(held, _Held(what, time.monotonic()))
            elif isinstance(what, _Ended):
                living.discard(source)
            elif not isinstance(what, _Begun):
                yield what
        if time.monotonic() >= look_again:
            look_again = time.monotonic() + WINDOW_S / 3
            yield from _released(held, before=time.monotonic() - WINDOW_S)
    yield from _released(held, before=float("inf"))


@dataclass(frozen=True, slots=True, order=True)
class _Held:
    line: LogLine
    arrived: float


def _released(held: list[_Held], *, before: float) -> Iterator[LogLine]:
    """Takes the lines out that arrived before, and all that are older than those."""
    latest = max((each.line for each in held if each.arrived <= before), default=None)
    while latest and held and held[0].line <= latest:
        yield heapq.heappop(held).line


def _check_services(sources: Sequence[_Source], wanted: Wanted) -> None:
    there = {name for source in sources for name in source.services}
    for name in wanted.services:
        # A host that could not be asked may have it.
        if there and name not in there:
            raise unknown("service", name, sorted(there))
