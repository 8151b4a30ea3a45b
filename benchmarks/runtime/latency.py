"""Benchmark of the time from submit to start: the engine compared with its bare queue.

Both use the same database, each with one worker in this process. They alternate in random order, so
that other load on the machine affects both. A submission of the engine writes the operation, its
event, its audit row and its queue entry in one transaction. The operation has started when the
worker holds its lease. The bare queue only writes its entry, and has started when its task runs. It
creates its own pools. In another variant it uses the engine's pools, which need fewer round trips.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

from procrastinate import App, PsycopgConnector
from pydantic import HttpUrl

from benchmarks.runtime.ground import SMALLEST_BACKTEST, Ground, bring_bars
from benchmarks.samples import ROW_TITLES, Goal, Outcome, Samples, ratio
from ktrdr.database.pool import connection_arguments, make_pool
from ktrdr.operations.drains import Drains
from ktrdr.operations.leases import LeaseBook
from ktrdr.operations.queue import serve, working_app
from ktrdr.operations.store import OperationStore
from ktrdr.schemas import OperationRequest, OperationType, WorkerType
from ktrdr.secret import Secret
from ktrdr.settings import Settings, WorkerSettings
from ktrdr.workers.supervision import Supervisor
from tests.integration.identities import ADA

REQUEST = OperationRequest(
    operation_type=OperationType.BACKTEST, parameters=dict(SMALLEST_BACKTEST)
)
RESULT = {"summary": {}, "directory": "none", "files": [], "report": "none"}
WARM_UP = 20
# A worker is still busy after the start of an operation; this must not affect the next sample.
SETTLE_S = 0.03
PATIENCE_S = 60.0
POOL_SIZE = 4
Shot = Callable[[], Awaitable[float]]
Opened = Callable[[str], AbstractAsyncContextManager[App]]


def measure_latency(ground: Ground, samples: int) -> Outcome:
    """Compare the engine with the bare queue, twice for the noise, and on the engine's pools."""
    with ground.database() as settings:
        engine, bare, again, tuned = asyncio.run(_compared(settings, samples))
    outcome = Outcome("submit to start, one worker", ("", *ROW_TITLES))
    outcome.rows = [
        ["engine: submitted to leased", *engine.row],
        ["bare queue: deferred to running", *bare.row],
        ["bare queue once more", *again.row],
        ["bare queue on the engine's pools", *tuned.row],
    ]
    outcome.goals.append(Goal("engine against bare queue, p50", 1.5, ratio(engine, bare), "times"))
    outcome.notes = [
        f"the bare queue against itself: {ratio(again, bare):.2f} times; "
        f"p99 of the engine: {engine.percentile(0.99) / bare.percentile(0.99):.2f} times",
        f"against the bare queue on the engine's pools: {ratio(engine, tuned):.2f} times at p50",
    ]
    return outcome


async def _compared(settings: Settings, samples: int) -> list[Samples]:
    async with (
        _engine(settings) as engine,
        _bare("bare", _pool_of_its_own(settings)) as bare,
        _bare("tuned", _pool_of_the_engine(settings)) as tuned,
    ):
        shots = (engine, bare, bare, tuned)
        taken: list[list[float]] = [[] for _ in shots]
        order, dice = list(range(len(shots))), random.Random(1)
        for number in range(WARM_UP + samples):
            dice.shuffle(order)
            for index in order:
                seconds = await shots[index]()
                if number >= WARM_UP:
                    taken[index].append(seconds)
                await asyncio.sleep(SETTLE_S)
    return [Samples(column) for column in taken]


@asynccontextmanager
async def _engine(settings: Settings) -> AsyncIterator[Shot]:
    starts: asyncio.Queue[float] = asyncio.Queue()
    async with AsyncExitStack() as stack:
        submitting = await stack.enter_async_context(
            make_pool(settings, "submits", max_size=POOL_SIZE)
        )
        working = await stack.enter_async_context(make_pool(settings, "works", max_size=POOL_SIZE))
        store, leases = OperationStore(submitting), LeaseBook(working)

        async def run(operation_id: str) -> None:
            claim = await leases.claim(operation_id, worker_id="w", lease_s=30)
            assert claim is not None
            starts.put_nowait(time.perf_counter())
            await leases.complete(claim.lease, RESULT)

        async def shot() -> float:
            began = time.perf_counter()
            await store.submit([REQUEST], by=ADA)
            return await asyncio.wait_for(starts.get(), PATIENCE_S) - began

        queue = working_app(working, run)
        worker = serve(queue, working, worker_id="w", worker_type=WorkerType.BACKTESTING, grace_s=1)
        await stack.enter_async_context(_running(worker))
        yield shot


@asynccontextmanager
async def _bare(name: str, opened: Opened) -> AsyncIterator[Shot]:
    starts: asyncio.Queue[float] = asyncio.Queue()
    async with AsyncExitStack() as stack:
        deferring = await stack.enter_async_context(opened(f"{name} defers"))
        app = await stack.enter_async_context(opened(f"{name} runs"))

        async def started(operation_id: str) -> None:  # noqa: ARG001  # the queue's
            starts.put_nowait(time.perf_counter())

        app.task(name=name, queue=name)(started)
        deferrer = deferring.configure_task(name, queue=name, allow_unknown=True)

        async def shot() -> float:
            began = time.perf_counter()
            await deferrer.defer_async(operation_id="x")
            return await asyncio.wait_for(starts.get(), PATIENCE_S) - began

        # As the engine's worker is configured.
        worker = app.run_worker_async(
            queues=[name],
            concurrency=1,
            fetch_job_polling_interval=1.0,
            delete_jobs="always",
            install_signal_handlers=False,
        )
        await stack.enter_async_context(_running(worker))
        yield shot


def _pool_of_its_own(settings: Settings) -> Opened:
    """Return procrastinate with its own pool and default settings of the driver."""

    @asynccontextmanager
    async def opened(application: str) -> AsyncIterator[App]:
        arguments = connection_arguments(settings, application)
        del arguments["prepare_threshold"]
        connector = PsycopgConnector(kwargs=arguments, min_size=1, max_size=POOL_SIZE)
        async with App(connector=connector).open_async() as app:
            yield app

    return opened


def _pool_of_the_engine(settings: Settings) -> Opened:
    @asynccontextmanager
    async def opened(application: str) -> AsyncIterator[App]:
        async with (
            make_pool(settings, application, max_size=POOL_SIZE) as pool,
            App(connector=PsycopgConnector()).open_async(pool) as app,
        ):
            yield app

    return opened


@asynccontextmanager
async def _running(work: Awaitable[None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def measure_startup(ground: Ground, samples: int) -> Outcome:
    """Measure the time until a child process runs, and until its handler's first message."""
    with ground.site() as place:
        bring_bars(place.client(place.backend()))
        children, words = asyncio.run(_until_work(place.settings, place.shared, samples))
    outcome = Outcome("submit to start of a real child process", ("", *ROW_TITLES))
    outcome.rows = [
        ["submitted to child process started", *children.row],
        ["submitted to first message of its handler", *words.row],
    ]
    outcome.notes = ["most of the second figure is the import of pandas and bt in the child"]
    return outcome


async def _until_work(settings: Settings, shared: Path, samples: int) -> tuple[Samples, Samples]:
    told = WorkerSettings(
        **{**settings.model_dump(), "shared_mount_path": shared},
        ktrdr_api_url=HttpUrl("http://127.0.0.1:1"),
        worker_type=WorkerType.BACKTESTING,
        worker_port=1,
        worker_public_base_url=HttpUrl("http://127.0.0.1:1"),
        worker_token=Secret("never used here"),
    )
    children, words = [], []
    async with AsyncExitStack() as stack:
        submitting = await stack.enter_async_context(
            make_pool(settings, "submits", max_size=POOL_SIZE)
        )
        working = await stack.enter_async_context(make_pool(settings, "works", max_size=POOL_SIZE))
        supervisor = Supervisor(told, "w", LeaseBook(working), Drains(working))
        store, queue = OperationStore(submitting), working_app(working, supervisor.run)
        worker = serve(queue, working, worker_id="w", worker_type=WorkerType.BACKTESTING, grace_s=1)
        await stack.enter_async_context(_running(worker))
        for _ in range(samples):
            began = time.perf_counter()
            await store.submit([REQUEST], by=ADA)
            child = word = None
            while word is None:
                await asyncio.sleep(0.0005)
                running = supervisor.running
                if child is None and running is not None and running.child is not None:
                    child = time.perf_counter() - began
                if running is not None and running.progress is not None:
                    word = time.perf_counter() - began
            assert child is not None
            children.append(child)
            words.append(word)
            while supervisor.running is not None:
                await asyncio.sleep(0.01)
    return Samples(children), Samples(words)
