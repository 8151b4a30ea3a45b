"""The shared directory and its mark: a worker without them is not ready, and takes nothing."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.client.backend import BackendClient
from ktrdr.database.pool import make_pool
from ktrdr.errors import KtrdrError
from ktrdr.operations import shared_directory
from ktrdr.operations.shared_directory import MARK, SharedDirectory
from ktrdr.schemas import Operation, OperationRequest, OperationStatus, OperationType, WorkerStatus
from ktrdr.settings import Settings
from tests.integration.mounts import mounted
from tests.integration.processes import (
    Runtime,
    ServerProcess,
    open_runtime,
    run_ktrdr,
    wait_for,
)
from tests.integration.releases import unpack_release

DATA = Path(__file__).parents[1] / "data" / "sp500_2007_2009.csv"
TRAINING = {"symbol": "SP500", "epochs": 3, "hidden_units": [8], "seed": 3}
# The last commit whose backend creates no mark.
WITHOUT_MARK = "9a72750"


@pytest.fixture
def client(runtime: Runtime, backend: ServerProcess) -> BackendClient:
    client = runtime.client(backend)
    import_data(client)
    return client


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """Return the directory of a worker's host at which nothing is mounted yet."""
    directory = tmp_path / "node"
    directory.mkdir()
    return directory


def import_data(client: BackendClient) -> None:
    with DATA.open("rb") as file:
        client.import_dataset(file, "SP500", "1d")


def submit(client: BackendClient, **parameters: Any) -> str:
    request = OperationRequest(
        operation_type=OperationType.TRAINING, parameters={**TRAINING, **parameters}
    )
    return client.submit(request, idempotency_key=str(uuid4())).operation_id


def wait_for_end(client: BackendClient, operation_id: str, seconds: float = 60) -> Operation:
    wait_for("the end", lambda: client.get_operation(operation_id).status.is_final, seconds)
    return client.get_operation(operation_id)


def health(process: ServerProcess, path: str = "/health") -> dict[str, Any]:
    document: dict[str, Any] = httpx.get(f"{process.url}{path}", trust_env=False).json()
    return document


def condition(process: ServerProcess, name: str) -> str | None:
    problems = {each["name"]: each["problem"] for each in health(process)["conditions"]}
    problem: str | None = problems[name]
    return problem


def wait_for_wrong_share(worker: ServerProcess) -> None:
    wait_for("the wrong share", lambda: MARK in str(condition(worker, "share")))


def test_a_worker_is_not_ready_before_it_has_compared_the_share_with_the_database(
    runtime: Runtime, backend: ServerProcess
) -> None:
    worker = runtime.worker("training", backend, DB_PORT="1")
    share = f"the shared directory {runtime.shared} "
    reason = f"{share}cannot be compared with the database, which is not available yet"
    wait_for("the comparison", lambda: condition(worker, "share") == reason)
    reachable = runtime.worker("training", backend)
    wait_for("the comparison", lambda: health(reachable)["problem"] is None, 4)


def test_a_worker_whose_share_is_not_mounted_says_so_takes_nothing_and_continues_by_itself(
    runtime: Runtime, backend: ServerProcess, client: BackendClient, node: Path
) -> None:
    worker = runtime.worker("training", backend, SHARED_MOUNT_PATH=str(node))
    wait_for_wrong_share(worker)
    problem = health(worker)["problem"]
    assert (
        problem["message"]
        == f"the shared directory {node} is not the right one: its file {MARK} is missing"
    )
    assert "Mount the right one on this host" in problem["hint"]
    operations = [submit(client) for _ in range(3)]
    wait_for("the backend's view", lambda: any(each.problem for each in client.list_workers()))
    listed = client.list_workers()[0]
    assert listed.status is WorkerStatus.TEMPORARILY_UNAVAILABLE
    assert problem["message"] in str(listed.problem)
    assert problem["message"] in run_ktrdr(backend, "workers", "list").replace("\n", " ")
    time.sleep(4)
    for operation in map(client.get_operation, operations):
        assert (operation.status, operation.attempt) == (OperationStatus.PENDING, 0)
        assert operation.retry_reason is None
    assert list(node.iterdir()) == [], "nothing is written below the mount point"

    with mounted(runtime.shared, node):
        for operation_id in operations:
            done = wait_for_end(client, operation_id)
            assert (done.status, done.attempt) == (OperationStatus.COMPLETED, 1)
        wait_for("the end of the problem", lambda: client.list_workers()[0].problem is None)
        assert health(worker)["problem"] is None
        worker.stop()


def test_another_worker_takes_what_one_without_the_share_was_woken_for(
    runtime: Runtime, backend: ServerProcess, client: BackendClient, node: Path
) -> None:
    without = runtime.worker("training", backend, SHARED_MOUNT_PATH=str(node))
    operation = submit(client)
    wait_for_wrong_share(without)
    healthy = runtime.worker("training", backend)
    done = wait_for_end(client, operation)
    assert done.status is OperationStatus.COMPLETED
    assert str(done.worker_id).endswith(healthy.url.rpartition(":")[2])


def test_a_directory_with_the_mark_of_another_installation_is_not_accepted(
    runtime: Runtime, backend: ServerProcess, client: BackendClient, node: Path
) -> None:
    (node / MARK).write_text(f"{uuid4()}\n")
    worker = runtime.worker("training", backend, SHARED_MOUNT_PATH=str(node))
    wait_for_wrong_share(worker)
    assert "has another id than the database" in health(worker)["problem"]["message"]
    operation = submit(client)
    time.sleep(2)
    assert client.get_operation(operation).status is OperationStatus.PENDING
    # The remedy names the id.
    mark = (runtime.shared / MARK).read_text().splitlines()[0]
    assert f"Or write {mark} into that file" in health(worker)["problem"]["hint"]


def test_an_idle_worker_without_the_share_ends_to_be_started_again_with_what_is_mounted_then(
    runtime: Runtime, backend: ServerProcess, client: BackendClient, node: Path
) -> None:
    patient = runtime.worker("training", backend, SHARED_MOUNT_PATH=str(node), SHARED_RESTART_S="0")
    worker = runtime.worker("training", backend, SHARED_MOUNT_PATH=str(node), SHARED_RESTART_S="1")
    worker.popen.wait(15)
    assert "ending, to be started again with the right shared directory" in worker.output
    assert "Traceback" not in worker.output
    assert patient.popen.poll() is None


def test_a_dataset_that_the_catalogue_has_and_the_workers_disk_lacks_is_waited_for(
    runtime: Runtime, backend: ServerProcess, client: BackendClient, node: Path
) -> None:
    shutil.copy(runtime.shared / MARK, node)
    runtime.worker("training", backend, SHARED_MOUNT_PATH=str(node))
    operation = submit(client)
    wait_for("a retry", lambda: client.get_operation(operation).retry_reason)
    waiting = client.get_operation(operation)
    assert waiting.status is OperationStatus.PENDING
    assert waiting.retry_reason == "SP500 1d is not in this worker's shared directory yet"
    shutil.copytree(runtime.shared / "data", node / "data")
    assert wait_for_end(client, operation).status is OperationStatus.COMPLETED


def test_a_dataset_that_nobody_has_is_a_final_error(
    runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    operation = submit(client)
    client.remove_dataset("SP500", "1d")
    runtime.worker("training", backend)
    done = wait_for_end(client, operation)
    assert (done.status, done.attempt) == (OperationStatus.FAILED, 1)
    assert done.error
    assert done.error.message == "there is no data for SP500 1d"


def test_an_operation_whose_share_disappears_goes_on_when_it_is_back(
    runtime: Runtime, backend: ServerProcess, client: BackendClient, node: Path
) -> None:
    empty = node.with_name("empty")
    empty.mkdir()
    worker = runtime.worker("training", backend)
    operation = submit(client, epochs=200, patience=1000, hidden_units=[64])
    wait_for("some progress", lambda: client.get_operation(operation).progress > 0.05)
    with mounted(empty, runtime.shared):
        wait_for("a retry", lambda: client.get_operation(operation).retry_reason)
        time.sleep(4)
        waiting = client.get_operation(operation)
        assert (waiting.status, waiting.attempt) == (OperationStatus.PENDING, 1)
        assert list(empty.glob("results/*")) == []
    assert wait_for_end(client, operation).status is OperationStatus.COMPLETED
    assert worker.popen.poll() is None


def test_a_backend_without_the_share_says_so_and_rejects_what_needs_it(
    runtime: Runtime, backend: ServerProcess, client: BackendClient, node: Path
) -> None:
    with mounted(node, runtime.shared):
        wait_for("the problem", lambda: health(backend, "/api/v1/health")["problem"])
        document = health(backend, "/api/v1/health")
        assert (document["status"], document["database"]) == ("degraded", "ok")
        for request in (
            lambda: import_data(client),
            lambda: client.list_datasets(),
            lambda: client.list_strategies(),
        ):
            with pytest.raises(KtrdrError, match="is not the right one"):
                request()
        anonymous = httpx.get(f"{backend.url}/api/v1/data", trust_env=False)
        assert anonymous.status_code == 401, "only who may read learns about it"
        assert client.list_operations().operations == []
        assert list(node.iterdir()) == []
    wait_for("its return", lambda: not health(backend, "/api/v1/health")["problem"])
    assert [each.symbol for each in client.list_datasets()] == ["SP500"]


def test_the_mark_is_created_once_and_kept(runtime: Runtime) -> None:
    runtime.backend().stop()
    mark = (runtime.shared / MARK).read_text()
    assert UUID(mark.splitlines()[0])
    runtime.backend().stop()
    assert (runtime.shared / MARK).read_text() == mark
    (runtime.shared / MARK).unlink()
    third = runtime.backend()
    assert (
        "its file .ktrdr-share is missing" in health(third, "/api/v1/health")["problem"]["message"]
    )
    assert not (runtime.shared / MARK).exists(), "an empty directory does not become the share"
    # The remedy for a directory that is meant to be the share.
    (runtime.shared / MARK).write_text(mark.splitlines()[0])
    wait_for("its return", lambda: not health(third, "/api/v1/health")["problem"])


def test_a_new_database_adopts_the_mark_of_the_share(
    runtime: Runtime, empty_database: Settings
) -> None:
    mark = f"{uuid4()}\n"
    (runtime.shared / MARK).write_text(mark)
    runtime.settings = empty_database
    backend = runtime.backend()
    assert health(backend, "/api/v1/health")["problem"] is None
    assert (runtime.shared / MARK).read_text() == mark


def test_a_share_that_cannot_be_marked_is_a_problem_until_it_can(runtime: Runtime) -> None:
    (runtime.shared / MARK).mkdir()
    backend = runtime.backend()
    problem = health(backend, "/api/v1/health")["problem"]
    assert problem["message"] == (
        f"the shared directory {runtime.shared} cannot be used (Is a directory)"
    )
    (runtime.shared / MARK).rmdir()
    wait_for("its end", lambda: health(backend, "/api/v1/health")["problem"] is None)
    assert (runtime.shared / MARK).is_file()


def test_a_worker_works_with_a_backend_of_the_release_before_which_creates_no_mark(
    empty_database: Settings, tmp_path: Path
) -> None:
    (tmp_path / "before").mkdir()
    before = {"PYTHONPATH": str(unpack_release(tmp_path / "before", WITHOUT_MARK))}
    with open_runtime(empty_database, tmp_path) as runtime:
        old = runtime.backend(None, **before)
        client = runtime.client(old)
        import_data(client)
        worker = runtime.worker("training", old, port=None)
        done = wait_for_end(client, submit(client))
        assert done.status is OperationStatus.COMPLETED, done.error
        assert health(worker)["problem"] is None
        assert not (runtime.shared / MARK).exists()
        # Then the core is deployed.
        port = int(old.url.rpartition(":")[2])
        old.stop()
        new = runtime.backend(port)
        assert (runtime.shared / MARK).exists()
        wait_for("its registration", lambda: runtime.client(new).list_workers())
        assert wait_for_end(client, submit(client)).status is OperationStatus.COMPLETED


def test_a_directory_that_does_not_respond_is_a_problem_until_it_does(
    database: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(shared_directory, "DISK_TIMEOUT_S", 0.1)
    settings = database.model_copy(update={"shared_mount_path": tmp_path})

    def hang(file: Path) -> str:
        release.wait(20)
        return read_mark(file)

    async def scenario() -> None:
        async with make_pool(settings, "test", max_size=2) as pool:
            shared = SharedDirectory(settings, pool, creates_mark=True)
            assert await shared.check() is None
            monkeypatch.setattr(shared_directory, "_read_mark", hang)
            for _ in range(3):
                problem = await shared.check()
                assert problem
                assert problem.message == f"the shared directory {tmp_path} does not respond"
            release.set()
            assert await shared.check() is None

    read_mark = shared_directory._read_mark
    asyncio.run(scenario())


@given(content=st.binary(max_size=400) | st.uuids().map(lambda each: str(each).encode()))
def test_a_mark_is_read_whatever_its_file_contains(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / MARK
    file.write_bytes(content)
    assert len(shared_directory._read_mark(file)) <= 200
    kept = shared_directory._keep_or_create_mark(file)
    assert shared_directory._read_mark(file) == kept
    assert shared_directory._keep_or_create_mark(file) == kept


@pytest.mark.parametrize("form", ["{}", " {} \r\n", "{}\nmore", "{{{}}}"])
def test_an_id_that_a_person_wrote_is_recognised(tmp_path: Path, form: str) -> None:
    id_ = str(uuid4())
    (tmp_path / MARK).write_text(form.format(id_.upper()), newline="")
    assert shared_directory._read_mark(tmp_path / MARK) == id_
    assert shared_directory._keep_or_create_mark(tmp_path / MARK) == id_
