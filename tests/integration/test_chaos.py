"""The short versions of `make chaos` and `make chaos-sigterm`."""

from __future__ import annotations

import pytest

from tests.chaos import run, sigterm
from tests.chaos.faults import FAULTS


@pytest.mark.timeout(600)
def test_nothing_is_lost_while_workers_backend_database_network_and_disk_break() -> None:
    account = run.run(seed=7, operations=16, say=lambda _line: None)
    assert account.problems == []
    assert account.completed.total() >= 16 + len(run.VARIANTS)
    assert account.completed.keys() == {"backtest", "training", "sweep"}
    assert sum(account.injected.values()) >= len(FAULTS) / 2


@pytest.mark.timeout(300)
def test_a_worker_that_is_told_to_stop_hands_its_work_over_within_its_time() -> None:
    stops = sigterm.run(seed=7, times=4, say=lambda _line: None)
    assert stops.problems == []
    assert len(stops.seconds) == 4
    assert max(stops.seconds) < sigterm.LIMIT_S
