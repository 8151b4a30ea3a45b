"""Loss of the database for longer than a lease: at a worker's start, and during an operation."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ktrdr.schemas import OperationRequest, OperationStatus, OperationType
from tests.integration.postgres import running_server
from tests.integration.processes import open_runtime, wait_for

DATA = Path(__file__).parents[1] / "data" / "sp500_2007_2009.csv"
LEASE_S = 3
TRAINING = OperationRequest(
    operation_type=OperationType.TRAINING,
    parameters={"symbol": "SP500", "epochs": 150, "patience": 150, "hidden_units": [48]},
)


@pytest.mark.timeout(300)
def test_an_operation_continues_after_the_database_returns_without_any_restart(
    tmp_path: Path,
) -> None:
    with (
        running_server() as server,
        server.database() as settings,
        open_runtime(settings, tmp_path) as runtime,
    ):
        backend = runtime.backend()
        client = runtime.client(backend)
        with DATA.open("rb") as file:
            client.import_dataset(file, "SP500", "1d")
        server.control("stop", "-m", "immediate")
        worker = runtime.worker("training", backend, LEASE_S=str(LEASE_S))
        server.control("start")
        wait_for("the backend", lambda: backend.responds("/api/v1/health/ready"), 60)
        operation = client.submit(TRAINING, idempotency_key="k").operation_id
        wait_for("some progress", lambda: client.get_operation(operation).progress > 0.05, 60)

        server.control("stop", "-m", "immediate")
        stopped_at = time.monotonic()
        wait_for("the worker's loss of the lease", lambda: "lease lost" in worker.output, 60)
        assert time.monotonic() - stopped_at > LEASE_S
        assert worker.responds("/health")
        server.control("start")
        wait_for("the backend", lambda: backend.responds("/api/v1/health/ready"), 60)
        wait_for("the end", lambda: client.get_operation(operation).status.is_final, 90)
        done = client.get_operation(operation)
        assert done.status is OperationStatus.COMPLETED
        assert done.attempt == 2
        assert done.retry_reason == f"worker {done.worker_id} stopped responding"
        assert worker.popen.poll() is None
        assert backend.popen.poll() is None
        assert "Traceback" not in worker.output
