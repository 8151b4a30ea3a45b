"""Durability of operations: full disks, drained workers, cancellation, logs, batches."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ktrdr.client.backend import BackendClient
from ktrdr.errors import InvalidParameters, NotFound
from ktrdr.schemas import (
    MAX_BATCH,
    DrainMode,
    Operation,
    OperationRequest,
    OperationStatus,
    OperationType,
)
from tests.integration.mounts import fill, free_space, remount, small_file_system
from tests.integration.processes import Runtime, ServerProcess, run_ktrdr, wait_for

DATA = Path(__file__).parents[1] / "data" / "sp500_2007_2009.csv"
TRAINING = {"symbol": "SP500", "epochs": 250, "patience": 250, "hidden_units": [64, 64], "seed": 3}
SHORT = {**TRAINING, "epochs": 3}


@pytest.fixture
def client(runtime: Runtime, backend: ServerProcess) -> BackendClient:
    client = runtime.client(backend)
    with DATA.open("rb") as file:
        client.import_dataset(file, "SP500", "1d")
    return client


@pytest.fixture
def small(runtime: Runtime) -> Iterator[Path]:
    """Mount a file system of 16 MB as the shared directory, before the backend starts."""
    with small_file_system(runtime.shared, 16) as mounted:
        yield mounted


def request(parameters: dict[str, Any] = TRAINING) -> OperationRequest:
    return OperationRequest(operation_type=OperationType.TRAINING, parameters=parameters)


def submit(client: BackendClient, parameters: dict[str, Any] = TRAINING) -> str:
    return client.submit(request(parameters), idempotency_key=str(uuid4())).operation_id


def wait_for_end(client: BackendClient, operation_id: str, seconds: float = 60) -> Operation:
    wait_for("the end", lambda: client.get_operation(operation_id).status.is_final, seconds)
    return client.get_operation(operation_id)


def wait_for_progress(client: BackendClient, operation_id: str, share: float = 0.05) -> None:
    wait_for("some progress", lambda: client.get_operation(operation_id).progress > share)


def running_on(client: BackendClient, operation_id: str) -> str | None:
    operation = client.get_operation(operation_id)
    return operation.worker_id if operation.status is OperationStatus.RUNNING else None


def test_an_operation_is_retried_until_the_full_shared_directory_has_space(
    small: Path, runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    worker = runtime.worker("training", backend)
    operation = submit(client)
    wait_for_progress(client, operation)
    fill(small)
    wait_for("a retry", lambda: client.get_operation(operation).retry_reason)
    waiting = client.get_operation(operation)
    assert waiting.status is OperationStatus.PENDING
    assert waiting.retry_reason == (
        f"the shared directory {small} cannot be used (No space left on device)"
    )
    said = run_ktrdr(backend, "operations", "show", operation)
    assert str(waiting.retry_reason) in said
    assert "next attempt" in said
    free_space(small)
    done = wait_for_end(client, operation)
    assert (done.status, done.retry_at) == (OperationStatus.COMPLETED, None)
    assert worker.popen.poll() is None
    assert "Traceback" not in worker.output


def test_a_worker_on_a_read_only_shared_directory_takes_nothing_until_it_can_write(
    small: Path, runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    worker = runtime.worker("training", backend)
    remount(small, "ro")
    operation = submit(client, SHORT)
    reason = f"the shared directory {small} cannot be used (Read-only file system)"
    wait_for("the reason", lambda: any(each.problem == reason for each in client.list_workers()))
    assert client.get_operation(operation).attempt == 0
    remount(small, "rw")
    assert wait_for_end(client, operation).status is OperationStatus.COMPLETED
    assert "Traceback" not in worker.output


def test_a_resumed_operation_continues_from_its_last_checkpoint(
    runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    runtime.worker("training", backend)
    undisturbed = wait_for_end(client, submit(client)).operation_id
    operation = submit(client)
    wait_for_progress(client, operation, 0.3)
    asked = time.monotonic()
    client.cancel(operation)
    assert wait_for_end(client, operation, 5).status is OperationStatus.CANCELLED
    assert time.monotonic() - asked < 5
    assert list((runtime.shared / "checkpoints" / operation).iterdir())
    reached = client.get_operation(operation).progress
    client.resume(operation)
    lowest = reached
    while not client.get_operation(operation).status.is_final:
        lowest = min(lowest, client.get_operation(operation).progress)
    assert lowest >= reached - 0.02, "it did not start again"
    assert client.get_results(operation).summary.items() - {("model", None)} >= {
        (name, value)
        for name, value in client.get_results(undisturbed).summary.items()
        if name != "model"
    }
    # They are removed once the operation has ended.
    checkpoints = runtime.shared / "checkpoints" / operation
    wait_for("the checkpoints are removed", lambda: not checkpoints.exists())


def test_a_drained_worker_finishes_its_operation_and_claims_no_other(
    runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    runtime.worker("training", backend)
    first = submit(client)
    wait_for_progress(client, first)
    (worker,) = client.list_workers()
    assert "gets no new operations" in run_ktrdr(backend, "workers", "drain", worker.worker_id)
    second = submit(client, SHORT)
    assert wait_for_end(client, first).status is OperationStatus.COMPLETED
    run_ktrdr(backend, "workers", "drain", worker.worker_id, "--wait")
    assert client.list_workers()[0].drain is DrainMode.FINISH
    assert "drained" in run_ktrdr(backend, "workers", "list")
    other = runtime.worker("training", backend)
    done = wait_for_end(client, second)
    assert done.worker_id != worker.worker_id, "another worker claims it"
    other.stop()
    third = submit(client, SHORT)
    run_ktrdr(backend, "workers", "undrain", worker.worker_id)
    assert wait_for_end(client, third).worker_id == worker.worker_id


def test_a_drained_node_hands_over_its_operation_and_stays_drained_after_a_restart(
    runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    worker = runtime.worker("training", backend)
    operation = submit(client)
    wait_for_progress(client, operation)
    client.drain("127.0.0.1", DrainMode.HAND_OVER)
    wait_for("the hand-over", lambda: running_on(client, operation) is None, 10)
    assert worker.stop() < 10, "a drained worker stops immediately"
    runtime.worker("training", backend)
    wait_for("its registration", lambda: client.list_workers())
    assert client.get_operation(operation).status is OperationStatus.PENDING
    client.undrain("127.0.0.1")
    done = wait_for_end(client, operation)
    assert (done.status, done.attempt) == (OperationStatus.COMPLETED, 2)


def test_only_a_worker_or_a_node_can_be_drained(
    runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    output = run_ktrdr(backend, "workers", "drain", "workers-z", exit_code=2)
    assert "error: there is no worker or node 'workers-z'" in output
    with pytest.raises(NotFound, match="not drained"):
        client.undrain("workers-z")


def test_the_log_spans_all_attempts_can_be_followed_and_is_kept_with_the_result(
    runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    worker = runtime.worker("training", backend)
    operation = submit(client)
    follower = client.stream_log(operation, follow=True)
    assert b"attempt 1 on training-127-" in next(follower)
    wait_for_progress(client, operation)
    worker.stop()
    runtime.worker("training", backend)
    rest = b"".join(follower)
    assert b"attempt 2 on" in rest
    assert client.get_operation(operation).status.is_final
    complete = b"".join(client.stream_log(operation))
    directory = runtime.shared / client.get_results(operation).directory
    assert complete == (directory / "operation.log").read_bytes()
    assert complete.endswith(rest)
    assert not (runtime.shared / "logs" / f"{operation}.log").exists()
    assert complete.decode() == run_ktrdr(backend, "operations", "logs", operation)


def test_the_log_of_a_failed_operation_is_kept(
    runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    runtime.worker("training", backend)
    long_ago = {"start": "1890-01-01", "end": "1891-01-01"}
    failed = wait_for_end(client, submit(client, {**SHORT, **long_ago}))
    assert failed.status is OperationStatus.FAILED
    assert "attempt 1" in run_ktrdr(backend, "operations", "logs", failed.operation_id)


def test_a_batch_of_a_thousand_operations_is_accepted_all_or_none(
    runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    many = [request({**SHORT, "seed": seed}) for seed in range(MAX_BATCH)]
    first = client.submit_batch(many, idempotency_key="night")
    again = client.submit_batch(many, idempotency_key="night")
    assert [each.operation_id for each in first] == [each.operation_id for each in again]
    assert [each.parameters["seed"] for each in first] == list(range(MAX_BATCH))
    listed, cursor = [], None
    while True:
        page = client.list_operations(limit=300, cursor=cursor)
        listed += [each.operation_id for each in page.operations]
        if (cursor := page.next_cursor) is None:
            break
    assert listed == [each.operation_id for each in reversed(first)]
    with pytest.raises(InvalidParameters, match="epochs"):
        client.submit_batch([request(), request({"symbol": "X", "epochs": 0})], idempotency_key="x")
    assert len(client.list_audit_entries(subject=first[0].operation_id)) == 1, (
        "one audit row for the batch"
    )


def test_a_file_of_operations_is_submitted_and_an_invalid_line_is_named(
    runtime: Runtime, backend: ServerProcess, client: BackendClient, tmp_path: Path
) -> None:
    runtime.worker("training", backend)
    file = tmp_path / "night.jsonl"
    lines = [
        json.dumps(request({**SHORT, "seed": seed}).model_dump(mode="json")) for seed in (1, 2)
    ]
    file.write_text("\n".join([*lines, ""]))
    assert "submitted 2 operations" in run_ktrdr(
        backend, "operations", "batch", str(file), "--wait"
    )
    assert {each.status for each in client.list_operations().operations} == {
        OperationStatus.COMPLETED
    }
    file.write_text("\n".join([lines[0], '{"operation_type": "backtset"}']))
    said = run_ktrdr(backend, "operations", "batch", str(file), exit_code=2)
    assert f"{file}:2: operation_type" in said
    assert len(client.list_operations().operations) == 2


def test_orphans_are_removed_by_a_command(
    runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    worker = runtime.worker("training", backend)
    operation = wait_for_end(client, submit(client, SHORT)).operation_id
    worker.stop()
    orphan = runtime.shared / "results" / f".{operation}.1"
    orphan.mkdir()
    foreign = runtime.shared / "results" / ".op_training_20200101_000000_00000000.1"
    foreign.mkdir()
    assert str(orphan.relative_to(runtime.shared)) in run_ktrdr(
        backend, "operations", "clean", "--dry-run"
    )
    assert orphan.exists()
    assert "deleted" in run_ktrdr(backend, "operations", "clean")
    assert not orphan.exists()
    assert foreign.exists(), "files of an unknown operation may belong to another database"
    assert "No files to delete" in run_ktrdr(backend, "operations", "clean")
