"""The backend: its routes, and the life of everything behind them."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version as installed_version
from typing import Final

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from opentelemetry.sdk.trace import TracerProvider

from ktrdr.access.audit import AuditTrail
from ktrdr.access.revocations import Revocations
from ktrdr.access.throttle import FailedAttempts
from ktrdr.api.division import divide_work
from ktrdr.api.errors import add_error_handlers, document_truthfully
from ktrdr.api.limits import LimitRequestSize
from ktrdr.api.measurement import MeasureRequests
from ktrdr.api.routes import (
    audit,
    data,
    discovery,
    drains,
    health,
    leftovers,
    operations,
    outcomes,
    strategies,
    tokens,
    workers,
)
from ktrdr.api.startup import SayWhyStartupFails
from ktrdr.api.state import State
from ktrdr.api.stopping import noticed
from ktrdr.database.migrate import migrate
from ktrdr.database.pool import make_pool, wait_until_reachable
from ktrdr.errors import KtrdrError
from ktrdr.fleet.health import HealthChecker
from ktrdr.fleet.registry import WorkerRegistry
from ktrdr.fleet.upkeep import Upkeep
from ktrdr.operations.drains import Drains
from ktrdr.operations.feed import ChangeFeed
from ktrdr.operations.leases import LeaseBook
from ktrdr.operations.store import OperationStore
from ktrdr.schemas import API_PREFIX
from ktrdr.settings import BackendSettings
from ktrdr.telemetry import metrics
from ktrdr.telemetry.tracing import set_up_tracing, shut_down_tracing, trace_requests

logger = logging.getLogger(__name__)

SERVICE: Final = "ktrdr-backend"
POOL_SIZE: Final = 10


def create_app(settings: BackendSettings) -> FastAPI:
    """The backend's application; its lifespan migrates the database and runs the upkeep."""
    provider = set_up_tracing(settings, SERVICE)
    metrics.build_info.labels(SERVICE, settings.image_tag, settings.ktrdr_commit).set(1)
    metrics.watch_shared_directory(settings.shared_mount_path)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                app.state.ktrdr = await stack.enter_async_context(_running(settings, provider))
            except KtrdrError as fault:
                app.state.startup_fault = fault
                raise
            _leave_alone_what_stays()
            # Streams would be waited for, and nobody is answered meanwhile.
            with noticed(app.state.ktrdr.feed.close):
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
    for module in (
        health,
        workers,
        drains,
        operations,
        outcomes,
        leftovers,
        strategies,
        data,
        tokens,
        audit,
    ):
        app.include_router(module.router, prefix=API_PREFIX)
    app.include_router(discovery.router)
    add_error_handlers(app)
    app.add_middleware(LimitRequestSize)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
        )
    document_truthfully(app)
    app.add_middleware(MeasureRequests)
    app.add_middleware(SayWhyStartupFails)
    trace_requests(app, provider)
    return app


def _leave_alone_what_stays() -> None:
    """Spares the collector all that was loaded at the start and lives as long as the process.

    Otherwise it goes through all of it again and again, 100 to 200 ms each time, and nobody is
    answered meanwhile; with many workers that comes every few seconds.
    """
    gc.collect()
    gc.freeze()


@asynccontextmanager
async def _running(settings: BackendSettings, provider: TracerProvider) -> AsyncIterator[State]:
    """Starts what the routes need, and stops it in the reverse order, traces last."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, shut_down_tracing, provider)
        await wait_until_reachable(settings, deadline_s=settings.database_deadline_s)
        await migrate(settings)
        pool = await stack.enter_async_context(make_pool(settings, SERVICE, max_size=POOL_SIZE))
        divide = partial(divide_work, settings.shared_mount_path / "strategies")
        store, registry = OperationStore(pool, divide=divide), WorkerRegistry(pool)
        feed, revocations = ChangeFeed(settings), Revocations(pool)
        await revocations.load()
        upkeep = Upkeep(settings, HealthChecker(registry, settings), LeaseBook(pool), store)
        await stack.enter_async_context(_background(feed.run(), upkeep.run(), revocations.run()))
        yield State(
            settings=settings,
            pool=pool,
            operations=store,
            registry=registry,
            feed=feed,
            drains=Drains(pool),
            audit=AuditTrail(pool),
            revocations=revocations,
            failed_attempts=FailedAttempts(settings.bad_tokens_a_minute),
        )


@asynccontextmanager
async def _background(*work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
