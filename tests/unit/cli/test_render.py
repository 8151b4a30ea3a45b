"""What people are shown, as it was written."""

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
