from __future__ import annotations

import pytest

from ktrdr.cli import render


@pytest.fixture(autouse=True)
def streams_of_this_test() -> None:
    """Output goes to the streams of this very test, not to those of an earlier one."""
    render.console.cache_clear()
