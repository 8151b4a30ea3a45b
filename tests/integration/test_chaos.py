"""Short versions of `make chaos` and `make chaos-sigterm`."""

from __future__ import annotations

import pytest

from tests.chaos import run, sigterm
from tests.chaos.faults import FAULTS


@pytest.mark.timeout(600)
def test_no_operation_is_lost_under_faults_of_workers_backend_database_network_and_disk() -> None:
    tally = run.run(seed=7, operations=16, log=lambda _line: None)
    assert tally.problems == []
    assert tally.completed.total() >= 16 + len(run.VARIANTS)
    assert tally.completed.keys() == {"backtest", "training", "sweep"}
    assert sum(tally.injected.values()) >= len(FAULTS) / 2


@pytest.mark.timeout(300)
def test_a_stopped_worker_requeues_its_operation_within_its_time() -> None:
    stops = sigterm.run(seed=7, times=4, log=lambda _line: None)
    assert stops.problems == []
    assert len(stops.seconds) == 4
    assert max(stops.seconds) < sigterm.MAX_STOP_S
