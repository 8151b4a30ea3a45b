"""The database is away for longer than a lease lasts: at a worker's start, and in mid-run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ktrdr.schemas import OperationRequest, OperationStatus, OperationType
from tests.integration.postgres import running_server
from tests.integration.processes import site, wait_for

DATA = Path(__file__).parents[1] / "data" / "sp500_2007_2009.csv"
LEASE_S = 3
TRAINING = OperationRequest(
    operation_type=OperationType.TRAINING,
    parameters={"symbol": "SP500", "epochs": 150, "patience": 150, "hidden_units": [48]},
)


@pytest.mark.timeout(300)
def test_work_goes_on_when_the_database_comes_back_and_nobody_needs_a_restart(
    tmp_path: Path,
) -> None:
    with (
        running_server() as server,
        server.database() as settings,
        site(settings, tmp_path) as place,
    ):
        backend = place.backend()
        client = place.client(backend)
        with DATA.open("rb") as file:
            client.import_dataset(file, "SP500", "1d")
        server.control("stop", "-m", "immediate")
        worker = place.worker("training", backend, LEASE_S=str(LEASE_S))
        server.control("start")
        wait_for("the backend", lambda: backend.answers("/api/v1/health/ready"), 60)
        operation = client.submit(TRAINING, idempotency_key="k").operation_id
        wait_for("some progress", lambda: client.get_operation(operation).progress > 0.05, 60)

        server.control("stop", "-m", "immediate")
        away = time.monotonic()
        wait_for("the worker's giving up", lambda: "lease lost" in worker.output, 60)
        assert time.monotonic() - away > LEASE_S
        assert worker.answers("/health")
        server.control("start")
        wait_for("the backend", lambda: backend.answers("/api/v1/health/ready"), 60)
        wait_for("the end", lambda: client.get_operation(operation).status.is_final, 90)
        done = client.get_operation(operation)
        assert done.status is OperationStatus.COMPLETED
        assert done.attempt == 2
        assert done.retry_reason == f"{done.worker_id} fell silent"
        assert worker.popen.poll() is None
        assert backend.popen.poll() is None
        assert "Traceback" not in worker.output
