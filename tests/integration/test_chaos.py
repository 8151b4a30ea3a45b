"""The short version of `make chaos`."""

from __future__ import annotations

import pytest

from tests.chaos.run import run


@pytest.mark.timeout(600)
def test_nothing_is_lost_while_workers_backend_and_database_break() -> None:
    account = run(seed=7, operations=14, say=lambda _line: None)
    assert account.problems == []
    assert account.completed == 14 + 4
    assert len(account.injected) >= 5
