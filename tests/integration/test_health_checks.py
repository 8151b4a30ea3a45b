"""Health checks on real sockets: a silent worker does not affect the others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime

from pydantic import HttpUrl

from benchmarks.runtime.simulated_workers import SimulatedWorker, simulated_worker_id
from ktrdr.database.pool import make_pool
from ktrdr.fleet.health import WorkerHealthChecker
from ktrdr.fleet.registry import WorkerRegistry
from ktrdr.operations.leases import LeaseStore
from ktrdr.operations.store import OperationStore
from ktrdr.schemas import OperationStatus, WorkerRegistration, WorkerStatus, WorkerType
from ktrdr.settings import BackendSettings, Settings
from tests.integration.identities import ADA
from tests.integration.processes import JWT_SECRET, Runtime, wait_for
from tests.integration.test_operations import BACKTEST

# More workers than connections that an httpx client opens by default.
MANY = 130
NOW = datetime.now(UTC)


@contextmanager
def silent_server() -> Iterator[int]:
    """Provide a port that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0), backlog=MANY) as server:
        yield server.getsockname()[1]


@asynccontextmanager
async def responding_server() -> AsyncIterator[int]:
    """Provide the port of a simulated worker."""
    server = await asyncio.get_running_loop().create_server(SimulatedWorker, "127.0.0.1", 0)
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


def test_many_silent_workers_do_not_make_a_healthy_one_fail(database: Settings) -> None:
    settings = BackendSettings(
        **database.model_dump(),
        jwt_secret=JWT_SECRET,
        health_check_interval_s=0.5,
        health_check_timeout_s=1,
        health_check_failures=2,
    )

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(make_pool(database, "test", max_size=8))
            silent = stack.enter_context(silent_server())
            good = await stack.enter_async_context(responding_server())
            registry = WorkerRegistry(pool)
            # Workers are checked by id, so the healthy one comes last.
            for number in range(MANY):
                await registry.register(registration(f"a{number:03}", silent))
            await registry.register(registration(simulated_worker_id(good), good))
            for _ in range(2):
                await WorkerHealthChecker(registry, settings).check_all(NOW)
            workers = {worker.worker_id: worker for worker in await registry.list_workers()}
        healthy = workers.pop(simulated_worker_id(good))
        assert (healthy.status, healthy.health_check_failures) == (WorkerStatus.AVAILABLE, 0)
        assert healthy.version == "sha-7e57ed0"
        assert {worker.health_check_failures for worker in workers.values()} == {2}
        assert {worker.status for worker in workers.values()} == {
            WorkerStatus.TEMPORARILY_UNAVAILABLE
        }

    asyncio.run(scenario())


def test_a_failed_check_of_an_earlier_registration_is_not_counted(
    database: Settings,
) -> None:
    async def scenario() -> None:
        async with make_pool(database, "test", max_size=2) as pool:
            registry = WorkerRegistry(pool)
            old = await registry.register(registration("w", 5003))
            await registry.register(registration("w", 5004))
            await registry.mark_unhealthy([(old, True)])
            worker = await registry.get("w")
            assert (worker.status, worker.health_check_failures) == (WorkerStatus.AVAILABLE, 0)

    asyncio.run(scenario())


def test_an_expired_lease_does_not_wait_for_the_check_of_a_silent_worker(runtime: Runtime) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(make_pool(runtime.settings, "test", max_size=4))
            silent = stack.enter_context(silent_server())
            await WorkerRegistry(pool).register(registration("silent", silent))
            await asyncio.to_thread(runtime.backend, HEALTH_CHECK_TIMEOUT_S="25")
            await asyncio.sleep(1)  # by now its check is running
            store, leases = OperationStore(pool), LeaseStore(pool)
            ((operation, _),) = await store.submit([BACKTEST], by=ADA)
            assert await leases.claim(operation.operation_id, worker_id="gone", lease_s=0.1)

            def is_pending() -> bool:
                future = asyncio.run_coroutine_threadsafe(store.get(operation.operation_id), loop)
                return future.result(5).status is OperationStatus.PENDING

            loop = asyncio.get_running_loop()
            await asyncio.to_thread(wait_for, "the reaper", is_pending, 12)

    asyncio.run(scenario())


def test_orphans_that_cannot_be_removed_are_reported_and_affect_nothing_else(
    runtime: Runtime,
) -> None:
    (runtime.shared / "data" / ".lock").mkdir(parents=True)
    backend = runtime.backend(SWEEP_EVERY_S="0.2")
    wait_for("two tries", lambda: backend.output.count("cannot remove orphans") >= 2, 20)
    assert "Traceback" not in backend.output
    assert "leader tasks wait" not in backend.output
