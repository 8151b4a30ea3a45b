"""Benchmark of a worker's response time to health checks while its child computes."""

from __future__ import annotations

import time

import httpx

from benchmarks.runtime.ground import Ground, bring_bars
from benchmarks.samples import ROW_TITLES, Goal, Outcome, Samples, timed
from ktrdr.schemas import OperationRequest, OperationType, WorkerHealth
from tests.integration.processes import Process, wait_for

LIMIT_MS = 50.0
PAUSE_S = 0.02
# Takes minutes; it is cancelled after the measurement.
TRAINING = OperationRequest(
    operation_type=OperationType.TRAINING,
    parameters={"symbol": "SP500", "epochs": 1000, "hidden_units": [256, 256]},
)


def measure_responsiveness(ground: Ground, samples: int) -> Outcome:
    """Request ``/health`` every 20 ms, while the worker is idle and while it is busy."""
    with ground.site() as place:
        backend = place.backend()
        client = place.client(backend)
        bring_bars(client)
        worker = place.worker("training", backend)
        idle = _asked(worker, samples, "idle")
        operation = client.submit(TRAINING, idempotency_key="bench").operation_id
        wait_for("some progress", lambda: client.get_operation(operation).progress > 0, 120)
        busy = _asked(worker, samples, "busy")
        client.cancel(operation)
    outcome = Outcome("GET /health of a worker", ("", *ROW_TITLES))
    outcome.rows = [["idle", *idle.row], ["while its child trains", *busy.row]]
    outcome.goals = [Goal("/health while busy, p99", LIMIT_MS, busy.percentile(0.99), "ms")]
    return outcome


def _asked(worker: Process, samples: int, status: str) -> Samples:
    taken = []
    with httpx.Client(base_url=worker.url, timeout=30, trust_env=False) as client:

        def ask() -> None:
            answer = client.get("/health")
            found = WorkerHealth.model_validate_json(answer.content).status
            assert found == status, f"the worker is {found} while it should be {status}"

        ask()
        for _ in range(samples):
            taken.append(timed(ask))
            time.sleep(PAUSE_S)
    return Samples(taken)
