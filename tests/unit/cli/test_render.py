"""Output for people."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from ktrdr.cli import render
from ktrdr.errors import NotFound
from tests.unit.cli.conftest import on_terminal


def test_a_name_between_colons_is_printed_and_not_as_an_emoji(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = Table("image")
    table.add_row("registry:key:bug:1")
    render.console().print("strategy :fire:")
    render.console().print(table)
    shown = capsys.readouterr().out
    assert "strategy :fire:" in shown
    assert "registry:key:bug:1" in shown


def test_sentences_are_folded_and_names_stay_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_terminal(monkeypatch, width=40)
    release = "20261126-180935-4f30-back"
    render.write_table(("release", "what"), [(release, "automatic rollback of it")], empty="")
    assert release in capsys.readouterr().out


WORKER, OPERATION = "backtesting-workers-b-5003", "op_backtest_20261123_164500_1a2b3c4d"


def test_a_row_that_a_terminal_is_too_narrow_for_becomes_a_paragraph(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_terminal(monkeypatch, width=80)
    columns = ("worker", "status", "version", ">healthy", "running")
    row = (WORKER, "busy", "sha-abc1234", "2.0 s ago", OPERATION)
    idle = (WORKER, "available", "sha-abc1234", "2.0 s ago", "")
    render.write_table(columns, [row, idle], empty="")
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        WORKER,
        "  status busy",
        "  version sha-abc1234",
        "  healthy 2.0 s ago",
        f"  running {OPERATION}",
        WORKER,
        "  status available",
        "  version sha-abc1234",
        "  healthy 2.0 s ago",
    ]


def test_in_a_pipe_each_row_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    render.write_table(("worker", "running"), [(WORKER, OPERATION * 3)], empty="")
    assert len(capsys.readouterr().out.splitlines()) == 2


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(*[st.from_regex(r"[a-z0-9_]{1,30}( [a-z]{1,9}){0,3}", fullmatch=True)] * 4),
        min_size=1,
        max_size=4,
    )
)
def test_a_terminal_of_80_columns_never_breaks_a_word(rows: list[tuple[str, ...]]) -> None:
    with pytest.MonkeyPatch.context() as patch, io.StringIO() as out:
        terminal = Console(file=out, width=80, force_terminal=True, color_system=None)
        patch.setattr(render, "console", lambda **_: terminal)
        render.write_table(("a", "b", "c", "d"), rows, empty="")
        shown = out.getvalue()
    words = [word for row in rows for cell in row for word in cell.split()]
    assert [word for word in words if word not in shown.split()] == []
    assert max(map(len, shown.splitlines())) <= 80


def test_an_error_and_its_hint_are_written_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    render.write_error(NotFound("there is no x: y", hint="Name another."))
    render.write_error(NotFound("there is no z"))
    captured = capsys.readouterr()
    assert captured.err == "error: there is no x: y\nhint: Name another.\nerror: there is no z\n"
    assert not captured.out


def test_lines_for_a_terminal_end_between_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    render.write_note("one line of a note that is long\nand another", label="error")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["error: one line of a", "note that is long", "and another"]


def test_no_other_module_prints() -> None:
    directory = Path(render.__file__).parent
    modules = [*directory.glob("*.py"), *directory.glob("commands/**/*.py")]
    prints = re.compile(r"click\.s?echo\(|sys\.std(out|err)\.(write|buffer)")
    offenders = [path.name for path in modules if prints.search(path.read_text())]
    assert offenders == ["render.py"]
