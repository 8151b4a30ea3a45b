"""Output for people."""

from __future__ import annotations

import pytest
from rich.table import Table

from ktrdr.cli import render


def test_a_name_between_colons_is_printed_and_never_turned_into_a_picture(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = Table("image")
    table.add_row("registry:key:bug:1")
    render.console().print("strategy :fire:")
    render.console().print(table)
    shown = capsys.readouterr().out
    assert "strategy :fire:" in shown
    assert "registry:key:bug:1" in shown


def test_a_column_that_is_kept_whole_lets_the_others_be_folded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    release = "20261126-180935-4f30-back"
    render.write_table(("=release", "what"), [(release, "automatic rollback of it")], empty="")
    assert release in capsys.readouterr().out
