"""Response time of a worker's health check while its child computes."""

from __future__ import annotations

import time

import httpx

from benchmarks.runtime.environment import BenchmarkEnvironment, import_bars
from benchmarks.samples import ROW_TITLES, Goal, Outcome, Samples, timed
from ktrdr.schemas import OperationRequest, OperationType, WorkerHealth
from tests.integration.processes import ServerProcess, wait_for

LIMIT_MS = 50.0
PAUSE_S = 0.02
# A training of several minutes, which is cancelled after the measurement.
TRAINING = OperationRequest(
    operation_type=OperationType.TRAINING,
    parameters={"symbol": "SP500", "epochs": 1000, "hidden_units": [256, 256]},
)


def measure_health(env: BenchmarkEnvironment, samples: int) -> Outcome:
    """Measure one client that asks every 20 ms, while the worker is idle and while it works."""
    with env.open_runtime() as runtime:
        backend = runtime.backend()
        client = runtime.client(backend)
        import_bars(client)
        worker = runtime.worker("training", backend)
        idle = _measure(worker, samples, "idle")
        operation = client.submit(TRAINING, idempotency_key="bench").operation_id
        wait_for("some progress", lambda: client.get_operation(operation).progress > 0, 120)
        busy = _measure(worker, samples, "busy")
        client.cancel(operation)
    outcome = Outcome("GET /health of a worker", ("", *ROW_TITLES))
    outcome.rows = [["idle", *idle.row], ["while its child trains", *busy.row]]
    outcome.goals = [Goal("/health while busy, p99", LIMIT_MS, busy.percentile(0.99), "ms")]
    return outcome


def _measure(worker: ServerProcess, samples: int, status: str) -> Samples:
    taken = []
    with httpx.Client(base_url=worker.url, timeout=30, trust_env=False) as client:

        def ask() -> None:
            response = client.get("/health")
            reported = WorkerHealth.model_validate_json(response.content).status
            assert reported == status, f"the worker is {reported} instead of {status}"

        ask()
        for _ in range(samples):
            taken.append(timed(ask))
            time.sleep(PAUSE_S)
    return Samples(taken)
