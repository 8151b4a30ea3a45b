"""Lines of several hosts in one stream."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.deployment import logs
from ktrdr.deployment.logs import LIVE, Back, LogLine, Lost, Wanted, read_since
from ktrdr.deployment.ssh.interface import OnLine, RemoteResult
from ktrdr.errors import HostNotReady, HostUnreachable, Interrupted, UsageError
from ktrdr.secret import Secret
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.day import CORE, B


def stamp(second: int) -> str:
    return f"2026-11-24T06:00:{second:02}.123456789Z"


def line(service: str, second: int, text: str) -> str:
    return f"{service}/0123456789ab {stamp(second)} {text}\n"


def transport(**outputs: str) -> RecordingTransport:
    found = RecordingTransport()
    for place in (CORE, B):
        said = outputs.get(place.node or "core", "")
        found.answer(Answer(stdout=said), host=place.host)
    return found


def texts(events) -> list[str]:
    return [event.text for event in events if isinstance(event, LogLine)]


def test_lines_of_all_hosts_are_in_the_order_of_time() -> None:
    hosts = transport(
        core="#db\n#backend\n" + line("db", 1, "a") + line("db", 4, "d") + line("backend", 2, "b"),
        B="#worker\n" + line("worker", 3, "c  with  spaces"),
    )
    found = list(logs.read([CORE, B], hosts, Wanted()))
    assert texts(found) == ["a", "b", "c  with  spaces", "d"]
    assert [(each.place.name, each.service) for each in found if isinstance(each, LogLine)] == [
        ("core", "db"), ("core", "backend"), ("workers B", "worker"), ("core", "db"),
    ]  # fmt: skip


def test_a_host_that_is_away_is_told_of_first_and_hides_nothing() -> None:
    hosts = transport(B=line("worker", 3, "c"))
    hosts.answer(Answer(error=HostUnreachable("away")), host=CORE.host)
    first, *rest = logs.read([CORE, B], hosts, Wanted())
    assert isinstance(first, Lost)
    assert first.error.message == "away"
    assert texts(rest) == ["c"]


def test_a_host_whose_docker_is_down_is_told_of() -> None:
    hosts = RecordingTransport()
    hosts.answer(Answer(exit_code=1, stderr="Cannot connect to the Docker daemon\n"))
    (lost,) = logs.read([CORE], hosts, Wanted())
    assert isinstance(lost, Lost)
    assert isinstance(lost.error, HostNotReady)


def test_only_lines_that_hold_the_expression_are_shown() -> None:
    hosts = transport(core=line("db", 1, "an ERROR") + line("db", 2, "fine"))
    found = logs.read([CORE], hosts, Wanted(pattern=re.compile("(?i)error")))
    assert texts(found) == ["an ERROR"]


def test_secrets_of_an_environment_that_a_program_writes_are_hidden_and_not_found() -> None:
    hosts = transport(core=line("db", 1, "DB_PASSWORD=apple") + line("db", 2, "an apple"))
    found = list(logs.read([CORE], hosts, Wanted()))
    assert texts(found) == ["DB_PASSWORD=•••", "an apple"]
    sought = logs.read([CORE], hosts, Wanted(pattern=re.compile("apple")))
    assert texts(sought) == ["an apple"]


def test_a_service_that_no_host_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="did you mean db") as refused:
        list(logs.read([CORE, B], transport(core="#db\n", B="#worker\n"), Wanted(("dv",))))
    assert refused.value.hint == "Valid are: db, worker."


@given(st.text())
def test_whatever_a_host_prints_is_a_line_or_nothing(text: str) -> None:
    hosts = RecordingTransport()
    hosts.answer(Answer(stdout=f"{text}\n{line('db', 1, text)}\n"))
    list(logs.read([CORE], hosts, Wanted()))


class Scripted:
    """A transport whose host does in each run what the test says."""

    def __init__(self, *runs: Callable[[OnLine], int]) -> None:
        self.scripts: list[str] = []
        self._runs = iter(runs)

    def run(
        self,
        host: str,
        script: Secret,
        *,
        timeout_s: float,
        on_line: OnLine | None = None,
    ) -> RemoteResult:
        self.scripts.append(script.reveal())
        assert on_line
        step = next(self._runs, None)
        if step is None:
            raise Interrupted("closed")
        return RemoteResult(step(on_line), "", "no daemon", 0.1)

    def hold(self, host: str, lines: Secret, *, timeout_s: float) -> Any: ...

    def connect(self, host: str) -> None: ...

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


def say(on_line: OnLine, *said: str) -> None:
    for text in said:
        on_line("stdout", text.removesuffix("\n"))


def test_what_is_followed_comes_after_what_was_there_and_each_line_once(monkeypatch) -> None:
    def run(on_line: OnLine) -> int:
        say(on_line, "#db", line("db", 2, "old"), LIVE, line("db", 2, "old"), line("db", 3, "new"))
        return 0

    found = list(logs.follow([CORE], Scripted(run), Wanted()))
    assert texts(found) == ["old", "new"]


def test_pieces_of_a_long_line_follow_it() -> None:
    def run(on_line: OnLine) -> int:
        say(on_line, "#db", LIVE, line("db", 2, "long"), "db/0123456789ab  and the rest")
        return 0

    assert texts(logs.follow([CORE], Scripted(run), Wanted())) == ["long", " and the rest"]


def test_a_host_that_was_lost_is_tried_again_from_its_last_line(monkeypatch) -> None:
    monkeypatch.setattr(logs, "_PAUSES_S", (0.0,))

    def first(on_line: OnLine) -> int:
        say(on_line, "#db", LIVE, line("db", 2, "one"))
        raise HostUnreachable("cut")

    def away(on_line: OnLine) -> int:
        raise HostUnreachable("still cut")

    def again(on_line: OnLine) -> int:
        say(on_line, "#db", line("db", 2, "one"), line("db", 5, "two"), LIVE)
        return 0

    hosts = Scripted(first, away, again)
    found = list(logs.follow([CORE], hosts, Wanted(lines=3)))
    assert texts(found) == ["one", "two"]
    told = [type(each) for each in found if not isinstance(each, LogLine)]
    assert told == [Lost, Back]
    assert "--lines 3" in hosts.scripts[0]
    assert "--lines all" in hosts.scripts[2]
    assert f"--since {stamp(2)}" in hosts.scripts[2]


def test_a_host_that_was_never_reached_is_not_tried_again() -> None:
    def away(on_line: OnLine) -> int:
        raise HostUnreachable("away")

    (lost,) = logs.follow([CORE], Scripted(away), Wanted())
    assert isinstance(lost, Lost)
    assert not lost.retried


def test_the_lines_of_two_hosts_are_merged_while_they_are_followed() -> None:
    both = threading.Barrier(2, timeout=10)

    def core(on_line: OnLine) -> int:
        say(on_line, "#db", LIVE, line("db", 9, "later"))
        both.wait()
        return 0

    class Two(Scripted):
        def run(self, host: str, *arguments, **more) -> RemoteResult:
            if host == CORE.host:
                return super().run(host, *arguments, **more)
            if both.n_waiting < 0 or host in self.scripts:
                raise Interrupted("closed")
            self.scripts.append(host)
            say(more["on_line"], "#worker", LIVE)
            both.wait()
            say(more["on_line"], line("worker", 8, "earlier"))
            raise Interrupted("closed")

    assert texts(logs.follow([CORE, B], Two(core), Wanted())) == ["earlier", "later"]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("10m", "600s"),
        ("1h30m", "5400s"),
        ("2d", "172800s"),
        ("2026-11-24T05:30Z", "2026-11-24T05:30:00.000000Z"),
        ("2026-11-24T05:30+02:00", "2026-11-24T03:30:00.000000Z"),
    ],
)
def test_spans_and_times_are_understood(text: str, read: str) -> None:
    assert read_since(text) == read


def test_a_time_without_a_zone_is_one_of_this_machine() -> None:
    here = datetime(2026, 11, 24, 5, 30).astimezone(UTC)  # that is the point
    assert read_since("2026-11-24T05:30") == f"{here:%Y-%m-%dT%H:%M:%S}.000000Z"


@given(st.text())
def test_anything_else_is_refused_in_a_sentence(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert re.fullmatch(r"\d+s|\d{4}-\S+Z", read_since(text))
