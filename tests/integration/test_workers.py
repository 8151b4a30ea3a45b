"""Workers as real processes: work is done, survives what befalls them, and is done once."""

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
from ktrdr.schemas import Operation, OperationRequest, OperationStatus, OperationType
from tests.integration.processes import Process, Site, wait_for

DATA = Path(__file__).parents[1] / "data" / "sp500_2007_2009.csv"
BACKTEST = {"symbol": "SP500", "train_bars": 200, "folds": 3}
# Some seconds of work, in many steps.
# With such patience no training ends before its epochs do.
TRAINING = {
    "symbol": "SP500",
    "epochs": 250,
    "patience": 1000,
    "hidden_units": [64, 64],
    "seed": 3,
}


@pytest.fixture
def client(place: Site, backend: Process) -> BackendClient:
    client = place.client(backend)
    with DATA.open("rb") as file:
        client.import_dataset(file, "SP500", "1d")
    return client


def submit(client: BackendClient, kind: str, parameters: dict[str, Any]) -> str:
    request = OperationRequest(operation_type=OperationType(kind), parameters=parameters)
    return client.submit(request, idempotency_key=str(uuid4())).operation_id


def ended(client: BackendClient, operation_id: str, seconds: float = 60) -> Operation:
    wait_for(
        f"{operation_id}'s end",
        lambda: client.get_operation(operation_id).status.is_final,
        seconds,
    )
    return client.get_operation(operation_id)


def has_begun(client: BackendClient, operation_id: str, share: float = 0.05) -> None:
    wait_for("some progress", lambda: client.get_operation(operation_id).progress > share)


def files_of(place: Site, client: BackendClient, operation_id: str) -> dict[str, bytes]:
    """The result files, without the log, whose lines have times."""
    directory = place.shared / client.get_results(operation_id).directory
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in ("operation.log", "result.json")
    }


def children_of(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == pid:
                found.append(int(entry.name))
    return found


def test_a_backtest_runs_on_a_backtest_worker_and_leaves_its_results(
    place: Site, backend: Process, client: BackendClient
) -> None:
    place.worker("backtest", backend)
    done = ended(client, submit(client, "backtest", BACKTEST))
    assert done.status is OperationStatus.COMPLETED
    assert done.worker_id
    assert done.worker_id.startswith("backtesting-")
    results = client.get_results(done.operation_id)
    assert results.report == "report.html"
    assert results.summary["bars"] == 600
    assert set(files_of(place, client, done.operation_id)) >= {"report.html", "equity.csv"}
    assert not list((place.shared / "checkpoints").rglob("*.json"))


def test_a_worker_leaves_the_other_kind_of_work_alone(
    place: Site, backend: Process, client: BackendClient
) -> None:
    place.worker("training", backend)
    backtest = submit(client, "backtest", BACKTEST)
    training = submit(client, "training", {**TRAINING, "epochs": 2})
    assert ended(client, training).status is OperationStatus.COMPLETED
    assert client.get_operation(backtest).status is OperationStatus.PENDING


def test_a_worker_that_is_stopped_hands_its_work_over_and_the_result_is_the_same(
    place: Site, backend: Process, client: BackendClient
) -> None:
    first = place.worker("training", backend)
    undisturbed = ended(client, submit(client, "training", TRAINING))
    disturbed = submit(client, "training", TRAINING)
    has_begun(client, disturbed)
    assert first.stop() < 30
    assert client.get_operation(disturbed).status is OperationStatus.PENDING
    second = place.worker("training", backend)
    done = ended(client, disturbed)
    assert done.status is OperationStatus.COMPLETED
    assert done.attempt == 2
    assert second.popen.poll() is None
    expected = files_of(place, client, undisturbed.operation_id)
    found = files_of(place, client, disturbed)
    assert found["epochs.json"] == expected["epochs.json"]


@pytest.mark.parametrize("victim", ["worker", "child"])
def test_work_goes_on_elsewhere_when_a_process_is_killed(
    place: Site, backend: Process, client: BackendClient, victim: str
) -> None:
    worker = place.worker("training", backend)
    operation = submit(client, "training", TRAINING)
    has_begun(client, operation)
    children = children_of(worker.popen.pid)
    assert children
    if victim == "worker":
        worker.signal(signal.SIGKILL)
        worker.popen.wait(10)
        wait_for("its children's end", lambda: not any(map(_lives, children)), 10)
        place.worker("training", backend)
    else:
        for child in children:
            os.kill(child, signal.SIGKILL)
    done = ended(client, operation)
    assert done.status is OperationStatus.COMPLETED
    assert done.attempt == 2
    left = [*place.shared.glob("results/.*"), *place.shared.glob("checkpoints/.*")]
    assert left == [], "what the first attempt could not clean up, the second does"


def test_cancelling_stops_the_child_within_seconds_and_the_worker_goes_on(
    place: Site, backend: Process, client: BackendClient
) -> None:
    worker = place.worker("training", backend)
    operation = submit(client, "training", {**TRAINING, "epochs": 1000, "patience": 1000})
    has_begun(client, operation, 0.01)
    client.cancel(operation)
    assert ended(client, operation, 5).status is OperationStatus.CANCELLED
    after = ended(client, submit(client, "training", {**TRAINING, "epochs": 2}))
    assert after.status is OperationStatus.COMPLETED
    assert worker.popen.poll() is None


def test_an_operation_on_data_that_is_not_there_fails_with_a_sentence_and_a_remedy(
    place: Site, backend: Process, client: BackendClient
) -> None:
    place.worker("backtest", backend)
    done = ended(client, submit(client, "backtest", {**BACKTEST, "symbol": "SP5000"}))
    assert done.status is OperationStatus.FAILED
    assert done.error
    assert done.error.message == "there is no data for SP5000 1d"
    assert "Did you mean SP500?" in str(done.error.hint)
    assert done.attempt == 1, "what cannot succeed is not tried again"


def test_a_worker_answers_at_once_while_its_child_computes(
    place: Site, backend: Process, client: BackendClient
) -> None:
    worker = place.worker("training", backend)
    operation = submit(client, "training", TRAINING)
    has_begun(client, operation)
    health = httpx.get(f"{worker.url}/health", timeout=5, trust_env=False).json()
    assert (health["status"], health["current_operation_id"]) == ("busy", operation)
    wait_for(
        "the backend's notice",
        lambda: client.list_workers()[0].current_operation_id == operation,
        10,
    )
    log = httpx.get(f"{worker.url}/operations/{operation}/logs", timeout=5, trust_env=False)
    assert log.status_code == 200
    ended(client, operation)


def test_neither_the_backend_nor_an_idle_worker_loads_numerical_libraries(
    place: Site, backend: Process
) -> None:
    worker = place.worker("backtest", backend)
    for process in (backend, worker):
        mapped = Path(f"/proc/{process.popen.pid}/maps").read_text()
        for library in ("numpy", "pandas", "sklearn", "scipy", "matplotlib"):
            assert f"/{library}" not in mapped, library


def test_a_worker_without_its_public_url_says_so_and_exits_with_3(
    place: Site, backend: Process
) -> None:
    process = place.start(
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


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_work_that_kills_its_process_again_and_again_fails_and_takes_no_worker_with_it(
    place: Site, backend: Process, client: BackendClient
) -> None:
    worker = place.worker("training", backend)
    operation = submit(client, "training", {**TRAINING, "epochs": 1000, "patience": 1000})
    deaths = 0
    while not client.get_operation(operation).status.is_final:
        for child in children_of(worker.popen.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
                deaths += 1
        time.sleep(0.2)
    done = client.get_operation(operation)
    assert done.status is OperationStatus.FAILED
    assert done.error
    assert done.error.kind == "killed"
    assert (done.attempt, deaths >= 3) == (3, True)
    after = ended(client, submit(client, "training", {**TRAINING, "epochs": 2}))
    assert after.status is OperationStatus.COMPLETED


def test_work_that_wants_too_much_memory_fails_with_a_sentence_and_nobody_is_killed(
    place: Site, backend: Process, client: BackendClient
) -> None:
    worker = place.worker("training", backend, CHILD_MEMORY_MB="600")
    greedy = submit(client, "training", {**TRAINING, "hidden_units": [1024] * 60, "epochs": 1})
    done = ended(client, greedy)
    assert done.status is OperationStatus.FAILED
    assert done.error
    assert done.error.kind == "out-of-memory"
    assert done.error.message == "the operation needs more than the 600 MiB of memory it may use"
    assert done.attempt == 1
    after = ended(client, submit(client, "training", {**TRAINING, "epochs": 2}))
    assert after.status is OperationStatus.COMPLETED
    assert worker.popen.poll() is None
