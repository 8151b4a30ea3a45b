"""What befalls operations besides killed processes: no room, drained workers, cancellation."""

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
from tests.integration.mounts import fill, make_room, remount, small_file_system
from tests.integration.processes import Process, Site, ktrdr, wait_for

DATA = Path(__file__).parents[1] / "data" / "sp500_2007_2009.csv"
TRAINING = {"symbol": "SP500", "epochs": 250, "patience": 250, "hidden_units": [64, 64], "seed": 3}
SHORT = {**TRAINING, "epochs": 3}


@pytest.fixture
def client(place: Site, backend: Process) -> BackendClient:
    client = place.client(backend)
    with DATA.open("rb") as file:
        client.import_dataset(file, "SP500", "1d")
    return client


@pytest.fixture
def small(place: Site) -> Iterator[Path]:
    """The shared directory, on a file system of 16 MB; asked for before the backend is."""
    with small_file_system(place.shared, 16) as found:
        yield found


def request(parameters: dict[str, Any] = TRAINING) -> OperationRequest:
    return OperationRequest(operation_type=OperationType.TRAINING, parameters=parameters)


def submit(client: BackendClient, parameters: dict[str, Any] = TRAINING) -> str:
    return client.submit(request(parameters), idempotency_key=str(uuid4())).operation_id


def ended(client: BackendClient, operation_id: str, seconds: float = 60) -> Operation:
    wait_for("the end", lambda: client.get_operation(operation_id).status.is_final, seconds)
    return client.get_operation(operation_id)


def has_begun(client: BackendClient, operation_id: str, share: float = 0.05) -> None:
    wait_for("some progress", lambda: client.get_operation(operation_id).progress > share)


def running_on(client: BackendClient, operation_id: str) -> str | None:
    found = client.get_operation(operation_id)
    return found.worker_id if found.status is OperationStatus.RUNNING else None


def test_a_full_shared_directory_sets_work_back_until_there_is_room(
    small: Path, place: Site, backend: Process, client: BackendClient
) -> None:
    worker = place.worker("training", backend)
    operation = submit(client)
    has_begun(client, operation)
    fill(small)
    wait_for("a setback", lambda: client.get_operation(operation).retry_reason)
    waiting = client.get_operation(operation)
    assert waiting.status is OperationStatus.PENDING
    assert waiting.retry_reason == (
        f"the shared directory {small} cannot be used (No space left on device)"
    )
    make_room(small)
    assert ended(client, operation).status is OperationStatus.COMPLETED
    assert worker.popen.poll() is None
    assert "Traceback" not in worker.output


def test_a_read_only_shared_directory_sets_work_back_and_says_when_it_is_tried_again(
    small: Path, place: Site, backend: Process, client: BackendClient
) -> None:
    worker = place.worker("training", backend)
    remount(small, "ro")
    operation = submit(client, SHORT)
    wait_for("a setback", lambda: client.get_operation(operation).retry_at)
    said = ktrdr(backend, "operations", "show", operation)
    assert f"the shared directory {small} cannot be used (Read-only file system)" in said
    assert "next attempt" in said
    remount(small, "rw")
    done = ended(client, operation)
    assert done.status is OperationStatus.COMPLETED
    assert done.retry_at is None
    assert "Traceback" not in worker.output


def test_a_cancelled_operation_goes_on_from_its_last_checkpoint_when_it_is_resumed(
    place: Site, backend: Process, client: BackendClient
) -> None:
    place.worker("training", backend)
    undisturbed = ended(client, submit(client)).operation_id
    operation = submit(client)
    has_begun(client, operation, 0.3)
    asked = time.monotonic()
    client.cancel(operation)
    assert ended(client, operation, 5).status is OperationStatus.CANCELLED
    assert time.monotonic() - asked < 5
    assert list((place.shared / "checkpoints" / operation).iterdir())
    begun = client.get_operation(operation).progress
    client.resume(operation)
    lowest = begun
    while not client.get_operation(operation).status.is_final:
        lowest = min(lowest, client.get_operation(operation).progress)
    assert lowest >= begun - 0.02, "it did not begin again"
    assert client.get_results(operation).summary.items() - {("model", None)} >= {
        (name, value)
        for name, value in client.get_results(undisturbed).summary.items()
        if name != "model"
    }
    assert not (place.shared / "checkpoints" / operation).exists()


def test_a_drained_worker_finishes_what_it_has_and_takes_nothing_new(
    place: Site, backend: Process, client: BackendClient
) -> None:
    place.worker("training", backend)
    first = submit(client)
    has_begun(client, first)
    (worker,) = client.list_workers()
    assert "gets no new operations" in ktrdr(backend, "workers", "drain", worker.worker_id)
    second = submit(client, SHORT)
    assert ended(client, first).status is OperationStatus.COMPLETED
    ktrdr(backend, "workers", "drain", worker.worker_id, "--wait")
    assert client.list_workers()[0].drain is DrainMode.FINISH
    assert "drained" in ktrdr(backend, "workers", "list")
    other = place.worker("training", backend)
    done = ended(client, second)
    assert done.worker_id != worker.worker_id, "another takes what a drained worker left"
    other.stop()
    third = submit(client, SHORT)
    ktrdr(backend, "workers", "undrain", worker.worker_id)
    assert ended(client, third).worker_id == worker.worker_id


def test_a_drained_node_hands_over_what_runs_there_and_stays_drained_over_a_restart(
    place: Site, backend: Process, client: BackendClient
) -> None:
    worker = place.worker("training", backend)
    operation = submit(client)
    has_begun(client, operation)
    client.drain("127.0.0.1", DrainMode.HAND_OVER)
    wait_for("the handing over", lambda: running_on(client, operation) is None, 10)
    assert worker.stop() < 10, "a drained worker stops at once"
    place.worker("training", backend)
    wait_for("its registration", lambda: client.list_workers())
    assert client.get_operation(operation).status is OperationStatus.PENDING
    client.undrain("127.0.0.1")
    done = ended(client, operation)
    assert (done.status, done.attempt) == (OperationStatus.COMPLETED, 2)


def test_what_is_neither_a_worker_nor_a_node_cannot_be_drained(
    place: Site, backend: Process, client: BackendClient
) -> None:
    said = ktrdr(backend, "workers", "drain", "workers-z", exit_code=2)
    assert "error: there is no worker or node 'workers-z'" in said
    with pytest.raises(NotFound, match="not drained"):
        client.undrain("workers-z")


def test_the_log_can_be_followed_spans_all_attempts_and_is_kept_with_the_result(
    place: Site, backend: Process, client: BackendClient
) -> None:
    worker = place.worker("training", backend)
    operation = submit(client)
    follower = client.stream_log(operation, follow=True)
    assert b"attempt 1 on training-127-" in next(follower)
    has_begun(client, operation)
    worker.stop()
    place.worker("training", backend)
    rest = b"".join(follower)
    assert b"attempt 2 on" in rest
    assert client.get_operation(operation).status.is_final
    whole = b"".join(client.stream_log(operation))
    directory = place.shared / client.get_results(operation).directory
    assert whole == (directory / "operation.log").read_bytes()
    assert whole.endswith(rest)
    assert not (place.shared / "logs" / f"{operation}.log").exists()
    assert whole.decode() == ktrdr(backend, "operations", "logs", operation)


def test_the_log_of_a_failed_operation_stays_readable(
    place: Site, backend: Process, client: BackendClient
) -> None:
    place.worker("training", backend)
    failed = ended(client, submit(client, {**SHORT, "symbol": "NONE"}))
    assert failed.status is OperationStatus.FAILED
    assert "attempt 1" in ktrdr(backend, "operations", "logs", failed.operation_id)


def test_a_thousand_operations_are_accepted_together_and_all_or_none(
    place: Site, backend: Process, client: BackendClient
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
        "one row for the thousand"
    )


def test_a_file_of_operations_is_submitted_and_a_wrong_line_is_named(
    place: Site, backend: Process, client: BackendClient, tmp_path: Path
) -> None:
    place.worker("training", backend)
    file = tmp_path / "night.jsonl"
    lines = [
        json.dumps(request({**SHORT, "seed": seed}).model_dump(mode="json")) for seed in (1, 2)
    ]
    file.write_text("\n".join([*lines, ""]))
    assert "submitted 2 operations" in ktrdr(backend, "operations", "batch", str(file), "--wait")
    assert {each.status for each in client.list_operations().operations} == {
        OperationStatus.COMPLETED
    }
    file.write_text("\n".join([lines[0], '{"operation_type": "backtset"}']))
    said = ktrdr(backend, "operations", "batch", str(file), exit_code=2)
    assert f"{file}:2: operation_type" in said
    assert len(client.list_operations().operations) == 2


def test_files_of_attempts_that_nobody_finishes_are_removed_by_a_command(
    place: Site, backend: Process, client: BackendClient
) -> None:
    worker = place.worker("training", backend)
    operation = ended(client, submit(client, SHORT)).operation_id
    worker.stop()
    left = place.shared / "results" / f".{operation}.1"
    left.mkdir()
    foreign = place.shared / "results" / ".op_training_20200101_000000_00000000.1"
    foreign.mkdir()
    assert str(left.relative_to(place.shared)) in ktrdr(backend, "operations", "clean", "--dry-run")
    assert left.exists()
    assert "deleted" in ktrdr(backend, "operations", "clean")
    assert not left.exists()
    assert foreign.exists(), "what belongs to no operation we know may be somebody else's"
    assert "No files to delete" in ktrdr(backend, "operations", "clean")
