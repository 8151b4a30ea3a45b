from __future__ import annotations

import pytest

from ktrdr.cli import render


@pytest.fixture(autouse=True)
def streams_of_this_test() -> None:
    """Output goes to the streams of this very test, not to those of an earlier one."""
    render.console.cache_clear()


def on_terminal(monkeypatch: pytest.MonkeyPatch, *, width: int = 80) -> None:
    """Let standard output be a terminal of a width, without colours."""
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", "25")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    render.console.cache_clear()
