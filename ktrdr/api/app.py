"""Application of the backend: its routes, and the life cycle of its services."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from importlib.metadata import version as installed_version
from pathlib import Path
from types import FrameType
from typing import Final

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from opentelemetry.sdk.trace import TracerProvider

from ktrdr.access.audit import AuditTrail
from ktrdr.access.revocations import RevocationList
from ktrdr.access.throttle import AuthenticationThrottle
from ktrdr.api.errors import add_error_handlers, remove_generated_422
from ktrdr.api.middleware import RequestMetrics, RequestSizeLimit, StartupErrors
from ktrdr.api.routes import (
    access,
    data,
    monitoring,
    operations,
    results,
    strategies,
    workers,
)
from ktrdr.api.state import BackendState
from ktrdr.database.migrate import migrate
from ktrdr.database.pool import first_line, make_pool, wait_until_reachable
from ktrdr.database.probe import DatabaseProbe, schema_tables
from ktrdr.database.timescaledb import update_once_settled
from ktrdr.errors import KtrdrError
from ktrdr.fitness import FindProblem, Fitness, Progress, find_stuck
from ktrdr.fleet.health import WorkerHealthChecker
from ktrdr.fleet.leader import LeaderTasks
from ktrdr.fleet.registry import WorkerRegistry
from ktrdr.marketdata.catalogue import require_dataset
from ktrdr.operations.change_feed import ChangeFeed
from ktrdr.operations.drain_requests import DrainStore
from ktrdr.operations.leases import LeaseStore
from ktrdr.operations.shared_directory import SharedDirectory
from ktrdr.operations.store import OperationStore
from ktrdr.schemas import (
    API_PREFIX,
    BacktestParameters,
    OperationParameters,
    SweepParameters,
)
from ktrdr.settings import BackendSettings
from ktrdr.strategies.catalogue import load_feature_set
from ktrdr.strategies.grid import build_backtests, validate_request
from ktrdr.telemetry import metrics
from ktrdr.telemetry.tracing import set_up_tracing, shut_down_tracing, trace_requests

logger = logging.getLogger(__name__)

SERVICE_NAME: Final = "ktrdr-backend"
POOL_SIZE: Final = 10
RESTART_AFTER_S: Final = 5.0


def create_app(settings: BackendSettings) -> FastAPI:
    """Create the application; its lifespan migrates the database and runs the services."""
    provider = set_up_tracing(settings, SERVICE_NAME)
    metrics.build_info.labels(SERVICE_NAME, settings.image_tag, settings.ktrdr_commit).set(1)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                app.state.ktrdr = await stack.enter_async_context(_run_services(settings, provider))
            except KtrdrError as exc:
                app.state.startup_error = exc
                raise
            # The garbage collector would otherwise examine all these objects again and again,
            # which blocks requests for 100 to 200 ms each time.
            gc.collect()
            gc.freeze()
            # Open streams must end first, because the server waits for them.
            with call_on_shutdown(app.state.ktrdr.change_feed.close):
                yield

    app = FastAPI(
        title="KTRDR",
        summary="Backtests and trainings of trading strategies",
        version=installed_version("ktrdr"),
        lifespan=lifespan,
        openapi_url=f"{API_PREFIX}/openapi.json",
        docs_url=f"{API_PREFIX}/docs",
        redoc_url=None,
    )
    for module in (monitoring, workers, operations, results, strategies, data, access):
        app.include_router(module.router, prefix=API_PREFIX)
    app.include_router(operations.orphans_router, prefix=API_PREFIX)
    app.include_router(monitoring.metrics_router)
    add_error_handlers(app)
    app.add_middleware(RequestSizeLimit)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
        )
    remove_generated_422(app)
    app.add_middleware(RequestMetrics)
    app.add_middleware(StartupErrors)
    trace_requests(app, provider)
    return app


@asynccontextmanager
async def _run_services(
    settings: BackendSettings, provider: TracerProvider
) -> AsyncIterator[BackendState]:
    """Run the services during the block, and stop them in reverse order, traces last."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, shut_down_tracing, provider)
        await wait_until_reachable(settings, deadline_s=settings.database_deadline_s)
        await migrate(settings)
        pool = await stack.enter_async_context(
            make_pool(settings, SERVICE_NAME, max_size=POOL_SIZE)
        )
        shared = SharedDirectory(settings, pool, creates_mark=True)
        expand = partial(expand_sweep, settings.shared_mount_path / "strategies", shared)
        store, registry = OperationStore(pool, expand_sweep=expand), WorkerRegistry(pool)
        change_feed, revocations = ChangeFeed(settings), RevocationList(pool)

        async def migrate_again() -> None:
            logger.error("the database lacks this release's schema, as if it was new: creating it")
            await migrate(settings)
            shared.forget()
            await shared.check()
            await revocations.load()

        probe = DatabaseProbe(settings, pool, schema_tables(), migrate_again)
        await probe.check()
        await shared.check()
        await revocations.load()
        leader = LeaderTasks(
            settings, WorkerHealthChecker(registry, settings), LeaseStore(pool), store
        )
        progress = [leader.progress, leader.checks, change_feed.progress, shared.progress]
        progress += await stack.enter_async_context(
            _run_in_background(
                {
                    "the feed of changes": change_feed.run,
                    "the leader's task": leader.run,
                    "the check of the shared directory": shared.run,
                    "the reload of revoked tokens": revocations.run,
                    "the update of TimescaleDB": partial(update_once_settled, settings),
                    "the probe of the database": probe.run,
                }
            )
        )
        conditions: dict[str, FindProblem] = {
            "database": lambda: probe.database,
            "schema": lambda: probe.schema,
            "share": lambda: shared.unfit,
            "clock": lambda: probe.clock,
            "background tasks": lambda: find_stuck(progress),
        }
        yield BackendState(
            settings=settings,
            pool=pool,
            shared=shared,
            probe=probe,
            fitness=Fitness(conditions, metrics.record_condition),
            operations=store,
            registry=registry,
            change_feed=change_feed,
            drains=DrainStore(pool),
            audit=AuditTrail(pool),
            revocations=revocations,
            throttle=AuthenticationThrottle(settings.bad_tokens_a_minute),
        )


@asynccontextmanager
async def _run_in_background(
    functions: Mapping[str, Callable[[], Coroutine[None, None, None]]],
) -> AsyncIterator[list[Progress]]:
    """Run tasks during the block; provide the progress of each, which tells whether it failed."""
    progress = [Progress(name, math.inf) for name in functions]
    tasks = [
        asyncio.create_task(_restart(function, each))
        for function, each in zip(functions.values(), progress, strict=True)
    ]
    try:
        yield progress
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _restart(run: Callable[[], Coroutine[None, None, None]], progress: Progress) -> None:
    """Run a task, and start it again whenever it fails."""
    while True:
        try:
            return await run()
        except Exception as exc:
            logger.exception("%s failed, and is started again", progress.name)
            progress.failed(first_line(exc))
        await asyncio.sleep(RESTART_AFTER_S)


@contextmanager
def call_on_shutdown(callback: Callable[[], None]) -> Iterator[None]:
    """Call ``callback`` in the running loop when the process receives SIGTERM or SIGINT.

    The server's own handlers run afterwards, because without them it would never end. A server
    outside the main thread receives no signals, so nothing is called.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    server_handlers = {sig: signal.getsignal(sig) for sig in (signal.SIGTERM, signal.SIGINT)}

    def handle_signal(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(callback)
        handler = server_handlers[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for sig, handler in server_handlers.items():
        if callable(handler):
            signal.signal(sig, handle_signal)
    try:
        yield
    finally:
        for sig, handler in server_handlers.items():
            signal.signal(sig, handler)


def expand_sweep(
    strategies: Path, shared: SharedDirectory, parameters: OperationParameters
) -> Sequence[BacktestParameters]:
    """Validate parameters and return the backtests of a sweep; empty for other operations.

    Args:
        strategies: Directory of the users' own strategies.
        shared: State of the shared directory. While it cannot be used, any symbol may exist.
        parameters: Parameters of the operation.

    Raises:
        InvalidParameters: The strategy or the data do not exist, or the parameters do not fit.
    """
    if shared.problem is None:
        require_dataset(strategies.parent / "data", parameters.symbol, parameters.timeframe)
    if isinstance(parameters, SweepParameters):
        return build_backtests(parameters, validate_request(parameters, strategies))
    if isinstance(parameters, BacktestParameters):
        validate_request(parameters, strategies)
    else:
        load_feature_set(parameters.features, strategies)
    return ()
