"""Output for people."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.table import Table

from ktrdr.cli import render
from ktrdr.errors import NotFound


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


def test_other_columns_are_folded_to_keep_one_in_a_single_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    release = "20261126-180935-4f30-back"
    render.write_table(("=release", "what"), [(release, "automatic rollback of it")], empty="")
    assert release in capsys.readouterr().out


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
