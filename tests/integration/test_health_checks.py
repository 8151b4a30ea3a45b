"""Health checks of real sockets: who is silent harms nobody else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime

from pydantic import HttpUrl

from benchmarks.runtime.simulated_workers import Worker, name_of
from ktrdr.database.pool import make_pool
from ktrdr.fleet.health import HealthChecker
from ktrdr.fleet.registry import WorkerRegistry
from ktrdr.operations.leases import LeaseBook
from ktrdr.operations.store import OperationStore
from ktrdr.schemas import OperationStatus, WorkerRegistration, WorkerStatus, WorkerType
from ktrdr.settings import BackendSettings, Settings
from tests.integration.identities import ADA
from tests.integration.processes import JWT_SECRET, Site, wait_for
from tests.integration.test_operations import BACKTEST

# More than a client of httpx opens connections unless it is told otherwise.
MANY = 130
NOW = datetime.now(UTC)


@contextmanager
def nobody_answering() -> Iterator[int]:
    """A port where connections are taken, and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0), backlog=MANY) as server:
        yield server.getsockname()[1]


@asynccontextmanager
async def answering() -> AsyncIterator[int]:
    """The port of a simulated worker."""
    server = await asyncio.get_running_loop().create_server(Worker, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def registration(worker_id: str, port: int) -> WorkerRegistration:
    return WorkerRegistration(
        worker_id=worker_id,
        worker_type=WorkerType.BACKTESTING,
        endpoint_url=HttpUrl(f"http://127.0.0.1:{port}"),
        version="before",
    )


def test_many_silent_workers_do_not_make_a_good_one_look_silent(database: Settings) -> None:
    settings = BackendSettings(
        **database.model_dump(),
        jwt_secret=JWT_SECRET,
        health_check_interval_s=0.5,
        health_check_timeout_s=1,
        health_check_failures=2,
    )

    async def story() -> None:
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(make_pool(database, "test", max_size=8))
            silent = stack.enter_context(nobody_answering())
            good = await stack.enter_async_context(answering())
            registry = WorkerRegistry(pool)
            # Workers are asked by name, so the good one comes last.
            for number in range(MANY):
                await registry.register(registration(f"a{number:03}", silent))
            await registry.register(registration(name_of(good), good))
            for _ in range(2):
                await HealthChecker(registry, settings).check_all(NOW)
            found = {worker.worker_id: worker for worker in await registry.workers()}
        well = found.pop(name_of(good))
        assert (well.status, well.health_check_failures) == (WorkerStatus.AVAILABLE, 0)
        assert well.version == "sha-7e57ed0"
        assert {worker.health_check_failures for worker in found.values()} == {2}
        assert {worker.status for worker in found.values()} == {
            WorkerStatus.TEMPORARILY_UNAVAILABLE
        }

    asyncio.run(story())


def test_what_a_worker_said_before_it_moved_is_not_held_against_its_new_place(
    database: Settings,
) -> None:
    async def story() -> None:
        async with make_pool(database, "test", max_size=2) as pool:
            registry = WorkerRegistry(pool)
            old = await registry.register(registration("w", 5003))
            await registry.register(registration("w", 5004))
            await registry.mark_unhealthy([(old, True)])
            worker = await registry.get("w")
            assert (worker.status, worker.health_check_failures) == (WorkerStatus.AVAILABLE, 0)

    asyncio.run(story())


def test_an_expired_lease_does_not_wait_for_a_silent_workers_check(place: Site) -> None:
    async def story() -> None:
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(make_pool(place.settings, "test", max_size=4))
            silent = stack.enter_context(nobody_answering())
            await WorkerRegistry(pool).register(registration("silent", silent))
            await asyncio.to_thread(place.backend, HEALTH_CHECK_TIMEOUT_S="25")
            await asyncio.sleep(1)  # by now it is being checked
            store, leases = OperationStore(pool), LeaseBook(pool)
            ((operation, _),) = await store.submit([BACKTEST], by=ADA)
            assert await leases.claim(operation.operation_id, worker_id="gone", lease_s=0.1)

            def is_pending() -> bool:
                found = asyncio.run_coroutine_threadsafe(store.get(operation.operation_id), loop)
                return found.result(5).status is OperationStatus.PENDING

            loop = asyncio.get_running_loop()
            await asyncio.to_thread(wait_for, "the reaper", is_pending, 12)

    asyncio.run(story())


def test_a_shared_directory_that_cannot_be_swept_is_said_and_harms_nothing_else(
    place: Site,
) -> None:
    (place.shared / "data" / ".lock").mkdir(parents=True)
    backend = place.backend(SWEEP_EVERY_S="0.2")
    wait_for("two sweeps", lambda: backend.output.count("leftovers stay until") >= 2, 20)
    assert "Traceback" not in backend.output
    assert "upkeep waits" not in backend.output
