"""Logs of services on several hosts, merged by time."""

from __future__ import annotations

import heapq
import queue
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from ktrdr.deployment.hosts.host import Host, unknown_name_error
from ktrdr.deployment.hosts.parallel import map_hosts
from ktrdr.deployment.hosts.queries import docker_unavailable
from ktrdr.deployment.scripts.script import Script, render, repeat
from ktrdr.deployment.ssh.interface import Stream, Transport
from ktrdr.errors import Interrupted, KtrdrError, UsageError
from ktrdr.secret import redact_assignments

# Reading a whole history may take long.
_READ_TIMEOUT_S: Final = 600.0
# ``logs.sh`` ends by itself after an hour, and is then started again.
_FOLLOW_TIMEOUT_S: Final = 3600.0 + 300.0
# What ``logs.sh`` prints before the name of a service, and when all older lines are printed.
NAMED: Final = "#"
LIVE: Final = "## live"
# A line waits this long, in case an older one arrives from another host.
_MERGE_WINDOW_S: Final = 0.3
_RETRY_DELAYS_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
# After a reconnect, lines can arrive again. To skip those, this many of the last lines are kept.
_REMEMBERED_LINES: Final = 5000
_LINE: Final = re.compile(
    r"(?P<service>[^ /]+)/(?P<container>[0-9a-f]+) "
    r"(?:(?P<timestamp>\d{4}-\S+Z) ?)?(?P<text>.*)",
    re.S,
)
_DURATION: Final = re.compile(r"(?:\d+[smhd])+")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True, order=True)
class LogLine:
    """Line that a service wrote.

    Attributes:
        timestamp: Time on the host as Docker writes it: in UTC, so that texts sort as times.
        host: The host.
        service: The service.
        container: Beginning of the container's id.
        text: The line.
    """

    timestamp: str
    host: Host = field(compare=False)
    service: str = field(compare=False)
    container: str = field(compare=False)
    text: str = field(compare=False)

    @property
    def time(self) -> datetime:
        """Return the time to the microsecond."""
        return datetime.fromisoformat(self.timestamp[:26].removesuffix("Z")).replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class HostLost:
    """Event: a host cannot be queried now.

    Attributes:
        host: The host.
        error: The reason.
        is_retried: Whether it is queried again until it is back.
    """

    host: Host
    error: KtrdrError
    is_retried: bool = False


@dataclass(frozen=True, slots=True)
class HostBack:
    """Event: a lost host can be queried again; no line in between is missing."""

    host: Host


LogEvent = LogLine | HostLost | HostBack


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Selection of log lines.

    Attributes:
        services: Names of services; none means all.
        since: Earliest time, as Docker reads it; see `parse_since`.
        lines: Number of the newest lines of each container; None for all.
        pattern: Regular expression that a line must contain.
    """

    services: tuple[str, ...] = ()
    since: str = ""
    lines: int | None = None
    pattern: re.Pattern[str] | None = None

    def matches(self, line: LogLine) -> bool:
        """Return whether a line contains the pattern."""
        return self.pattern is None or self.pattern.search(line.text) is not None


def parse_since(text: str) -> str:
    """Convert a duration such as ``1h30m``, or a time, to what ``docker logs --since`` reads.

    A time without a zone is local time of this machine.

    Raises:
        UsageError: The text is neither a duration nor a time.
    """
    if _DURATION.fullmatch(text):
        parts = re.findall(r"(\d+)([smhd])", text)
        return f"{sum(int(number) * _SECONDS[unit] for number, unit in parts)}s"
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise UsageError(
            f"{text!r} is neither a duration nor a time",
            hint="Write 10m, 2h, 1d, or a time such as 2026-11-24T05:30 (local time) or "
            "2026-11-24T05:30Z.",
        ) from exc
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read_logs(hosts: Sequence[Host], transport: Transport, query: LogQuery) -> Iterator[LogEvent]:
    """Yield the hosts that cannot be queried, then all lines until now.

    Raises:
        UsageError: No host has such a service.
    """
    events: queue.SimpleQueue[_SourceEvent] = queue.SimpleQueue()
    sources = {host: _Source(host, transport, query, events.put) for host in hosts}
    map_hosts(lambda host: sources[host].read(), hosts, transport)
    _check_services(sources.values(), query)
    received = [events.get()[1] for _ in range(events.qsize())]
    yield from (event for event in received if isinstance(event, HostLost))
    yield from sorted(event for event in received if isinstance(event, LogLine))


def follow_logs(hosts: Sequence[Host], transport: Transport, query: LogQuery) -> Iterator[LogEvent]:
    """Yield all lines until now, and then new ones until the transport is closed.

    A host that is lost is queried again until it is back. A host that was never reached is not.

    Raises:
        UsageError: No host has such a service.
    """
    events: queue.SimpleQueue[_SourceEvent] = queue.SimpleQueue()
    sources = [_Source(host, transport, query, events.put) for host in hosts]
    for source in sources:
        name = f"logs {source.host.name}"
        threading.Thread(target=source.follow, name=name, daemon=True).start()
    waiting: list[_WaitingLine] = []
    yield from _collect_older_lines(sources, events, waiting)
    _check_services(sources, query)
    yield from _merge_new_lines(sources, events, waiting)


class _CaughtUp:
    """Event: all older lines of a source have arrived."""


class _Ended:
    """Event: a source sends no more lines."""


_SourceEvent = tuple["_Source", LogEvent | _CaughtUp | _Ended]


class _Source:
    """Log of one host.

    Attributes:
        host: The host.
        services: Names of the services that exist there.
        is_caught_up: Whether the host was reached and has sent all older lines.
    """

    def __init__(
        self,
        host: Host,
        transport: Transport,
        query: LogQuery,
        put: Callable[[_SourceEvent], None],
    ) -> None:
        self.host = host
        self.services: set[str] = set()
        self.is_caught_up = False
        self._transport = transport
        self._query = query
        self._put = put
        self._parser = _LineParser(host)
        self._is_lost = False
        self._delays = iter(_RETRY_DELAYS_S)

    def read(self) -> None:
        """Send all lines until now."""
        try:
            self._run(self._query, _READ_TIMEOUT_S, follow=False)
        except KtrdrError as error:
            self._send(HostLost(self.host, error))

    def follow(self) -> None:
        """Send all lines until the transport is closed, or the host was never reached."""
        while self._follow_once():
            pass
        self._send(_Ended())

    def _follow_once(self) -> bool:
        """Follow until the script or the connection ends; return whether to continue."""
        query = self._query
        if self._parser.latest:
            query = replace(query, since=self._parser.latest, lines=None)
        try:
            self._run(query, _FOLLOW_TIMEOUT_S, follow=True)
        except Interrupted:
            return False
        except KtrdrError as error:
            if not self._is_lost:
                self._send(HostLost(self.host, error, is_retried=self.is_caught_up))
            self._is_lost = True
            if self.is_caught_up:
                time.sleep(next(self._delays, _RETRY_DELAYS_S[-1]))
        return self.is_caught_up

    def _run(self, query: LogQuery, timeout_s: float, *, follow: bool) -> None:
        arguments = (
            *("--project", self.host.project),
            *("--lines", str(query.lines or "all")),
            *repeat("--since", [query.since] if query.since else []),
            *("--follow", "yes" if follow else "no"),
            *("--", *query.services),
        )
        script = render(Script("scripts/logs.sh", arguments), {})
        result = self._transport.run(
            self.host.address, script, timeout_s=timeout_s, on_line=self._receive
        )
        if result.exit_code:
            raise docker_unavailable(self.host, result)

    def _receive(self, stream: Stream, text: str) -> None:
        if stream == "stderr":
            return
        if text == LIVE:
            self._note_caught_up()
        elif text.startswith(NAMED):
            self.services.add(text.removeprefix(NAMED))
        else:
            line = self._parser.parse(redact_assignments(text, self.host.further_secrets))
            if line and self._query.matches(line):
                self._send(line)

    def _note_caught_up(self) -> None:
        self._delays = iter(_RETRY_DELAYS_S)
        if self._is_lost:
            self._is_lost = False
            self._send(HostBack(self.host))
        if not self.is_caught_up:
            self.is_caught_up = True
            self._send(_CaughtUp())

    def _send(self, event: LogEvent | _CaughtUp | _Ended) -> None:
        self._put((self, event))


class _LineParser:
    """Parser of one host's lines that skips repeated ones.

    Attributes:
        latest: Latest timestamp; empty before the first line.
    """

    def __init__(self, host: Host) -> None:
        self.latest = ""
        self._host = host
        self._seen: OrderedDict[tuple[str, ...], None] = OrderedDict()
        self._previous: dict[str, LogLine | None] = {}

    def parse(self, text: str) -> LogLine | None:
        """Parse a line; return None if it is not readable, or repeated."""
        match = _LINE.fullmatch(text)
        if not match:
            return None
        service, container, timestamp, rest = match.group(
            "service", "container", "timestamp", "text"
        )
        if timestamp is None:
            # The script cuts long lines. This is a further piece of one.
            previous = self._previous.get(container)
            return replace(previous, text=rest) if previous else None
        is_new = self._is_new(container, timestamp, rest)
        line = LogLine(timestamp, self._host, service, container, rest) if is_new else None
        self._previous[container] = line
        self.latest = max(self.latest, timestamp)
        return line

    def _is_new(self, *key: str) -> bool:
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED_LINES:
            self._seen.popitem(last=False)
        return True


@dataclass(frozen=True, slots=True, order=True)
class _WaitingLine:
    """Line that waits for older ones, with the time of its arrival."""

    line: LogLine
    arrived: float


def _collect_older_lines(
    sources: Sequence[_Source],
    events: queue.SimpleQueue[_SourceEvent],
    waiting: list[_WaitingLine],
) -> Iterator[LogEvent]:
    """Collect lines until every host has caught up or is known to be unreachable."""
    behind = set(sources)
    while behind:
        source, event = events.get()
        if isinstance(event, LogLine):
            heapq.heappush(waiting, _WaitingLine(event, time.monotonic()))
        elif isinstance(event, _CaughtUp | _Ended):
            behind.discard(source)
        else:
            yield event


def _merge_new_lines(
    sources: Sequence[_Source],
    events: queue.SimpleQueue[_SourceEvent],
    waiting: list[_WaitingLine],
) -> Iterator[LogEvent]:
    """Yield lines by time, each after a short wait, until all hosts have ended."""
    active = {source for source in sources if source.is_caught_up}
    next_release = 0.0
    while active:
        try:
            source, event = events.get(timeout=_MERGE_WINDOW_S / 3 if waiting else None)
        except queue.Empty:
            pass
        else:
            if isinstance(event, LogLine):
                heapq.heappush(waiting, _WaitingLine(event, time.monotonic()))
            elif isinstance(event, _Ended):
                active.discard(source)
            elif not isinstance(event, _CaughtUp):
                yield event
        if time.monotonic() >= next_release:
            next_release = time.monotonic() + _MERGE_WINDOW_S / 3
            yield from _release_lines(waiting, before=time.monotonic() - _MERGE_WINDOW_S)
    yield from _release_lines(waiting, before=float("inf"))


def _release_lines(waiting: list[_WaitingLine], *, before: float) -> Iterator[LogLine]:
    """Remove and yield the lines that arrived before a time, and all lines older than those."""
    latest = max((each.line for each in waiting if each.arrived <= before), default=None)
    while latest and waiting and waiting[0].line <= latest:
        yield heapq.heappop(waiting).line


def _check_services(sources: Iterable[_Source], query: LogQuery) -> None:
    existing = {name for source in sources for name in source.services}
    for name in query.services:
        # A host that could not be queried may have it.
        if existing and name not in existing:
            raise unknown_name_error("service", name, sorted(existing))
