"""Workers as real processes: operations complete once, whatever happens to the processes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from ktrdr.client.backend import BackendClient
from ktrdr.errors import InvalidParameters
from ktrdr.schemas import Operation, OperationRequest, OperationStatus, OperationType
from tests.integration.processes import Runtime, ServerProcess, child_pids, wait_for

DATA = Path(__file__).parents[1] / "data" / "sp500_2007_2009.csv"
BACKTEST = {"symbol": "SP500", "train_bars": 200, "folds": 3}
# Some seconds in many steps. With this patience no training stops early.
TRAINING = {
    "symbol": "SP500",
    "epochs": 250,
    "patience": 1000,
    "hidden_units": [64, 64],
    "seed": 3,
}


@pytest.fixture
def client(runtime: Runtime, backend: ServerProcess) -> BackendClient:
    client = runtime.client(backend)
    with DATA.open("rb") as file:
        client.import_dataset(file, "SP500", "1d")
    return client


def submit(client: BackendClient, kind: str, parameters: dict[str, Any]) -> str:
    request = OperationRequest(operation_type=OperationType(kind), parameters=parameters)
    return client.submit(request, idempotency_key=str(uuid4())).operation_id


def wait_for_end(client: BackendClient, operation_id: str, seconds: float = 60) -> Operation:
    wait_for(
        f"{operation_id}'s end",
        lambda: client.get_operation(operation_id).status.is_final,
        seconds,
    )
    return client.get_operation(operation_id)


def wait_for_progress(client: BackendClient, operation_id: str, share: float = 0.05) -> None:
    wait_for("some progress", lambda: client.get_operation(operation_id).progress > share)


def read_files(runtime: Runtime, client: BackendClient, operation_id: str) -> dict[str, bytes]:
    """Return the result files, without the log, whose lines contain times."""
    directory = runtime.shared / client.get_results(operation_id).directory
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in ("operation.log", "result.json")
    }


def test_a_backtest_runs_on_a_backtest_worker_and_publishes_its_results(
    runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    runtime.worker("backtest", backend)
    done = wait_for_end(client, submit(client, "backtest", BACKTEST))
    assert done.status is OperationStatus.COMPLETED
    assert done.worker_id
    assert done.worker_id.startswith("backtesting-")
    results = client.get_results(done.operation_id)
    assert results.report == "report.html"
    assert results.summary["bars"] == 600
    assert set(read_files(runtime, client, done.operation_id)) >= {"report.html", "equity.csv"}
    assert not list((runtime.shared / "checkpoints").rglob("*.json"))


def test_a_worker_claims_only_operations_of_its_type(
    runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    runtime.worker("training", backend)
    backtest = submit(client, "backtest", BACKTEST)
    training = submit(client, "training", {**TRAINING, "epochs": 2})
    assert wait_for_end(client, training).status is OperationStatus.COMPLETED
    assert client.get_operation(backtest).status is OperationStatus.PENDING


def test_a_stopped_worker_requeues_its_operation_and_the_result_is_the_same(
    runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    first = runtime.worker("training", backend)
    undisturbed = wait_for_end(client, submit(client, "training", TRAINING))
    disturbed = submit(client, "training", TRAINING)
    wait_for_progress(client, disturbed)
    assert first.stop() < 30
    assert client.get_operation(disturbed).status is OperationStatus.PENDING
    second = runtime.worker("training", backend)
    done = wait_for_end(client, disturbed)
    assert done.status is OperationStatus.COMPLETED
    assert done.attempt == 2
    assert second.popen.poll() is None
    expected = read_files(runtime, client, undisturbed.operation_id)
    found = read_files(runtime, client, disturbed)
    assert found["epochs.json"] == expected["epochs.json"]


@pytest.mark.parametrize("victim", ["worker", "child"])
def test_an_operation_is_retried_when_a_process_is_killed(
    runtime: Runtime, backend: ServerProcess, client: BackendClient, victim: str
) -> None:
    worker = runtime.worker("training", backend)
    operation = submit(client, "training", TRAINING)
    wait_for_progress(client, operation)
    children = child_pids(worker.popen.pid)
    assert children
    if victim == "worker":
        worker.signal(signal.SIGKILL)
        worker.popen.wait(10)
        wait_for("the end of its children", lambda: not any(map(_is_alive, children)), 10)
        runtime.worker("training", backend)
    else:
        for child in children:
            os.kill(child, signal.SIGKILL)
    done = wait_for_end(client, operation)
    assert done.status is OperationStatus.COMPLETED
    assert done.attempt == 2
    left = [*runtime.shared.glob("results/.*"), *runtime.shared.glob("checkpoints/.*")]
    assert left == [], "the second attempt deletes the files of the first"


def test_cancelling_stops_the_child_within_seconds_and_the_worker_goes_on(
    runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    worker = runtime.worker("training", backend)
    operation = submit(client, "training", {**TRAINING, "epochs": 1000, "patience": 1000})
    wait_for_progress(client, operation, 0.01)
    client.cancel(operation)
    assert wait_for_end(client, operation, 5).status is OperationStatus.CANCELLED
    after = wait_for_end(client, submit(client, "training", {**TRAINING, "epochs": 2}))
    assert after.status is OperationStatus.COMPLETED
    assert worker.popen.poll() is None


def test_an_operation_on_an_unknown_symbol_is_refused_with_the_closest_one(
    backend: ServerProcess, client: BackendClient
) -> None:
    with pytest.raises(InvalidParameters, match="there is no data for SP5000 1d") as refused:
        submit(client, "backtest", {**BACKTEST, "symbol": "SP5000"})
    assert "Did you mean SP500?" in str(refused.value.hint)
    assert client.list_operations().operations == []


def test_an_operation_on_missing_bars_fails_with_a_reason_and_a_hint(
    runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    runtime.worker("backtest", backend)
    long_ago = {"start": "1890-01-01", "end": "1891-01-01"}
    done = wait_for_end(client, submit(client, "backtest", {**BACKTEST, **long_ago}))
    assert done.status is OperationStatus.FAILED
    assert done.error
    assert done.error.message == "SP500 1d has no bars between the requested dates"
    assert "It covers" in str(done.error.hint)
    assert done.attempt == 1, "an operation that cannot succeed is not retried"


def test_a_worker_responds_while_its_child_computes(
    runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    worker = runtime.worker("training", backend)
    operation = submit(client, "training", TRAINING)
    wait_for_progress(client, operation)
    health = httpx.get(f"{worker.url}/health", timeout=5, trust_env=False).json()
    assert (health["status"], health["current_operation_id"]) == ("busy", operation)
    wait_for(
        "the backend's health check",
        lambda: client.list_workers()[0].current_operation_id == operation,
        10,
    )
    log = httpx.get(f"{worker.url}/operations/{operation}/logs", timeout=5, trust_env=False)
    assert log.status_code == 200
    wait_for_end(client, operation)


def test_neither_the_backend_nor_an_idle_worker_loads_numerical_libraries(
    runtime: Runtime, backend: ServerProcess
) -> None:
    worker = runtime.worker("backtest", backend)
    for process in (backend, worker):
        mapped = Path(f"/proc/{process.popen.pid}/maps").read_text()
        for library in ("numpy", "pandas", "sklearn", "scipy", "matplotlib"):
            assert f"/{library}" not in mapped, library


def test_a_worker_without_its_public_url_exits_with_3_and_names_the_variable(
    runtime: Runtime, backend: ServerProcess
) -> None:
    process = runtime.start(
        "ktrdr.workers.backtest:app",
        1,
        KTRDR_API_URL=backend.url,
        WORKER_TYPE="backtesting",
        WORKER_PORT="5003",
        WORKER_TOKEN="x" * 40,
    )
    assert process.popen.wait(20) == 3
    assert "WORKER_PUBLIC_BASE_URL" in process.output
    assert "Traceback" not in process.output


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_operation_whose_process_dies_again_and_again_fails_and_harms_no_worker(
    runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    worker = runtime.worker("training", backend)
    operation = submit(client, "training", {**TRAINING, "epochs": 1000, "patience": 1000})
    deaths = 0
    while not client.get_operation(operation).status.is_final:
        for child in child_pids(worker.popen.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
                deaths += 1
        time.sleep(0.2)
    done = client.get_operation(operation)
    assert done.status is OperationStatus.FAILED
    assert done.error
    assert done.error.kind == "killed"
    assert (done.attempt, deaths >= 3) == (3, True)
    after = wait_for_end(client, submit(client, "training", {**TRAINING, "epochs": 2}))
    assert after.status is OperationStatus.COMPLETED


def test_an_operation_that_needs_too_much_memory_fails_with_a_reason_and_no_process_is_killed(
    runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    worker = runtime.worker("training", backend, CHILD_MEMORY_MB="600")
    greedy = submit(client, "training", {**TRAINING, "hidden_units": [1024] * 60, "epochs": 1})
    done = wait_for_end(client, greedy)
    assert done.status is OperationStatus.FAILED
    assert done.error
    assert done.error.kind == "out-of-memory"
    assert done.error.message == "the operation needs more than its memory limit of 600 MiB"
    assert done.attempt == 1
    after = wait_for_end(client, submit(client, "training", {**TRAINING, "epochs": 2}))
    assert after.status is OperationStatus.COMPLETED
    assert worker.popen.poll() is None
