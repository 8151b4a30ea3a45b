"""Logs of several hosts, merged by time."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.deployment import logs
from ktrdr.deployment.logs import (
    LIVE,
    HostBack,
    HostLost,
    LogLine,
    LogQuery,
    follow_logs,
    parse_since,
    read_logs,
)
from ktrdr.deployment.ssh.interface import OnLine, RemoteResult
from ktrdr.errors import HostNotReady, HostUnreachable, Interrupted, UsageError
from ktrdr.secret import Secret
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.sample_hosts import CORE, B


def timestamp(second: int) -> str:
    return f"2026-11-24T06:00:{second:02}.123456789Z"


def line(service: str, second: int, text: str) -> str:
    return f"{service}/0123456789ab {timestamp(second)} {text}\n"


def simulate_hosts(**outputs: str) -> RecordingTransport:
    transport = RecordingTransport()
    for host in (CORE, B):
        transport.answer(Answer(stdout=outputs.get(host.short_name, "")), host=host.address)
    return transport


def texts(events) -> list[str]:
    return [event.text for event in events if isinstance(event, LogLine)]


def test_lines_of_all_hosts_are_sorted_by_time() -> None:
    hosts = simulate_hosts(
        core="#db\n#backend\n" + line("db", 1, "a") + line("db", 4, "d") + line("backend", 2, "b"),
        B="#worker\n" + line("worker", 3, "c  with  spaces"),
    )
    events = list(read_logs([CORE, B], hosts, LogQuery()))
    assert texts(events) == ["a", "b", "c  with  spaces", "d"]
    assert [(each.host.name, each.service) for each in events if isinstance(each, LogLine)] == [
        ("core", "db"), ("core", "backend"), ("workers B", "worker"), ("core", "db"),
    ]  # fmt: skip


def test_an_unreachable_host_comes_first_and_does_not_hide_the_others() -> None:
    hosts = simulate_hosts(B=line("worker", 3, "c"))
    hosts.answer(Answer(error=HostUnreachable("away")), host=CORE.address)
    first, *rest = read_logs([CORE, B], hosts, LogQuery())
    assert isinstance(first, HostLost)
    assert first.error.message == "away"
    assert texts(rest) == ["c"]


def test_a_host_whose_docker_is_down_is_reported() -> None:
    hosts = RecordingTransport()
    hosts.answer(Answer(exit_code=1, stderr="Cannot connect to the Docker daemon\n"))
    (lost,) = read_logs([CORE], hosts, LogQuery())
    assert isinstance(lost, HostLost)
    assert isinstance(lost.error, HostNotReady)


def test_only_lines_that_match_the_pattern_are_shown() -> None:
    hosts = simulate_hosts(core=line("db", 1, "an ERROR") + line("db", 2, "fine"))
    events = read_logs([CORE], hosts, LogQuery(pattern=re.compile("(?i)error")))
    assert texts(events) == ["an ERROR"]


def test_secrets_in_a_printed_environment_are_hidden_and_do_not_match() -> None:
    hosts = simulate_hosts(core=line("db", 1, "DB_PASSWORD=apple") + line("db", 2, "an apple"))
    events = list(read_logs([CORE], hosts, LogQuery()))
    assert texts(events) == ["DB_PASSWORD=•••", "an apple"]
    matching = read_logs([CORE], hosts, LogQuery(pattern=re.compile("apple")))
    assert texts(matching) == ["an apple"]


def test_further_secrets_of_the_inventory_are_hidden_by_their_names() -> None:
    hosts = simulate_hosts(core=line("db", 1, "BROKER_DSN=apple"))
    host = replace(CORE, further_secrets=("BROKER_DSN",))
    assert texts(list(read_logs([host], hosts, LogQuery()))) == ["BROKER_DSN=•••"]


def test_a_service_that_no_host_has_is_an_error_that_lists_the_valid_ones() -> None:
    with pytest.raises(UsageError, match="did you mean db") as error:
        list(read_logs([CORE, B], simulate_hosts(core="#db\n", B="#worker\n"), LogQuery(("dv",))))
    assert error.value.hint == "Valid names: db, worker."


@given(st.text())
def test_unreadable_output_is_no_error(text: str) -> None:
    hosts = RecordingTransport()
    hosts.answer(Answer(stdout=f"{text}\n{line('db', 1, text)}\n"))
    list(read_logs([CORE], hosts, LogQuery()))


class Scripted:
    """Transport whose host does in each run what the test says."""

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

    def acquire(self, host: str, script: Secret, *, timeout_s: float) -> Any: ...

    def connect(self, host: str) -> None: ...

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


def send(on_line: OnLine, *lines: str) -> None:
    for text in lines:
        on_line("stdout", text.removesuffix("\n"))


def test_followed_lines_come_after_older_ones_and_each_line_once(monkeypatch) -> None:
    def run(on_line: OnLine) -> int:
        send(on_line, "#db", line("db", 2, "old"), LIVE, line("db", 2, "old"), line("db", 3, "new"))
        return 0

    events = list(follow_logs([CORE], Scripted(run), LogQuery()))
    assert texts(events) == ["old", "new"]


def test_pieces_of_a_long_line_follow_its_beginning() -> None:
    def run(on_line: OnLine) -> int:
        send(on_line, "#db", LIVE, line("db", 2, "long"), "db/0123456789ab  and the rest")
        return 0

    assert texts(follow_logs([CORE], Scripted(run), LogQuery())) == ["long", " and the rest"]


def test_a_lost_host_is_queried_again_from_its_last_line(monkeypatch) -> None:
    monkeypatch.setattr(logs, "_RETRY_DELAYS_S", (0.0,))

    def first(on_line: OnLine) -> int:
        send(on_line, "#db", LIVE, line("db", 2, "one"))
        raise HostUnreachable("cut")

    def away(on_line: OnLine) -> int:
        raise HostUnreachable("still cut")

    def again(on_line: OnLine) -> int:
        send(on_line, "#db", line("db", 2, "one"), line("db", 5, "two"), LIVE)
        return 0

    hosts = Scripted(first, away, again)
    events = list(follow_logs([CORE], hosts, LogQuery(lines=3)))
    assert texts(events) == ["one", "two"]
    others = [type(each) for each in events if not isinstance(each, LogLine)]
    assert others == [HostLost, HostBack]
    assert "--lines 3" in hosts.scripts[0]
    assert "--lines all" in hosts.scripts[2]
    assert f"--since {timestamp(2)}" in hosts.scripts[2]


def test_a_host_that_was_never_reached_is_not_queried_again() -> None:
    def away(on_line: OnLine) -> int:
        raise HostUnreachable("away")

    (lost,) = follow_logs([CORE], Scripted(away), LogQuery())
    assert isinstance(lost, HostLost)
    assert not lost.is_retried


def test_the_lines_of_two_hosts_are_merged_while_they_are_followed() -> None:
    both = threading.Barrier(2, timeout=10)

    def core(on_line: OnLine) -> int:
        send(on_line, "#db", LIVE, line("db", 9, "later"))
        both.wait()
        return 0

    class Two(Scripted):
        def run(self, host: str, *arguments, **more) -> RemoteResult:
            if host == CORE.address:
                return super().run(host, *arguments, **more)
            if both.n_waiting < 0 or host in self.scripts:
                raise Interrupted("closed")
            self.scripts.append(host)
            send(more["on_line"], "#worker", LIVE)
            both.wait()
            send(more["on_line"], line("worker", 8, "earlier"))
            raise Interrupted("closed")

    assert texts(follow_logs([CORE, B], Two(core), LogQuery())) == ["earlier", "later"]


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("10m", "600s"),
        ("1h30m", "5400s"),
        ("2d", "172800s"),
        ("2026-11-24T05:30Z", "2026-11-24T05:30:00.000000Z"),
        ("2026-11-24T05:30+02:00", "2026-11-24T03:30:00.000000Z"),
    ],
)
def test_durations_and_times_are_converted(text: str, since: str) -> None:
    assert parse_since(text) == since


def test_a_time_without_a_zone_is_local_time() -> None:
    here = datetime(2026, 11, 24, 5, 30).astimezone(UTC)  # the zone of this machine
    assert parse_since("2026-11-24T05:30") == f"{here:%Y-%m-%dT%H:%M:%S}.000000Z"


@given(st.text())
def test_any_other_text_is_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert re.fullmatch(r"\d+s|\d{4}-\S+Z", parse_since(text))
