"""Output of log lines."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.cli import log_lines
from ktrdr.deployment.logs import HostBack, HostLost, LogLine
from ktrdr.errors import HostUnreachable
from tests.unit.cli.conftest import on_terminal
from tests.unit.deployment.sample_hosts import CORE, B

STAMP = "2026-11-24T06:00:01.123456789Z"
LINES = [
    LogLine(STAMP, CORE, "db", "0123456789ab", "ready [now] \x1b[31mred\x1b[0m"),
    LogLine(STAMP, B, "backtest-worker-1", "ba9876543210", "é"),
]


def test_without_a_terminal_a_line_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    assert log_lines.write_log(LINES, as_json=False) == []
    assert capsys.readouterr().out.splitlines() == [
        f"{STAMP} core/db ready [now] red",
        f"{STAMP} B/backtest-worker-1 é",
    ]


def test_as_json_each_line_is_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    log_lines.write_log(LINES, as_json=True)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found[1] == {
        "time": STAMP,
        "target": "workers B",
        "host": "workers-b.lab.test",
        "service": "backtest-worker-1",
        "container": "ba9876543210",
        "text": "é",
    }


def test_only_hosts_whose_connection_is_lost_for_good_are_returned() -> None:
    away = HostLost(B, HostUnreachable("away"))
    again = HostLost(CORE, HostUnreachable("cut"), is_retried=True)
    assert log_lines.write_log([again, HostBack(CORE), away], as_json=False) == [away]


@given(st.text())
def test_control_characters_of_a_program_cannot_affect_the_terminal(text: str) -> None:
    shown = log_lines.escape_control_characters(f"\x1b[31m{text}\x1b]0;title\x07")
    assert not {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160))} & set(shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            '{"time": "2026-11-24T06:00:01Z", "level": "INFO", "logger": "x", "message": "ready"}',
            "INFO ready",
        ),
        ('{"message": "failed", "exception": "Traceback"}', "failed Traceback"),
        ('{"level": "INFO"}', '{"level": "INFO"}'),
        ('{"message": 1}', '{"message": 1}'),
        ("{broken", "{broken"),
        ("{" * 100_000, "{" * 100_000),
        ("plain", "plain"),
    ],
)
def test_a_line_of_json_is_shortened_to_level_and_message(text: str, shown: str) -> None:
    assert log_lines.shorten_json(text) == shown


@pytest.mark.parametrize(("raw", "expected"), [(False, "INFO ready"), (True, '"level": "INFO"')])
def test_only_a_terminal_gets_short_lines_and_only_if_it_wants(
    raw: bool,
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = '{"level": "INFO", "message": "ready"}'
    line = LogLine(STAMP, CORE, "backend", "0123456789ab", text)
    log_lines.write_log([line], as_json=False, raw=raw)
    assert text in capsys.readouterr().out, "a pipe gets the line as it is"
    on_terminal(monkeypatch)
    log_lines.write_log([line], as_json=False, raw=raw)
    assert expected in capsys.readouterr().out
