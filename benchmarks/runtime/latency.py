"""Latency from submission to start: the engine compared with the bare queue below it.

Both use one database and one worker in this process each. They run alternately in random order, so
that other load on the machine affects both. The engine writes the operation, its event, its audit
row and its queue entry in one transaction, and has started when the worker holds the lease. The
bare queue writes its entry only, and has started when its task runs. It is measured with its own
pools, and once more with the engine's pools, which need fewer round trips.
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

from benchmarks.runtime.environment import SMALLEST_BACKTEST, BenchmarkEnvironment, import_bars
from benchmarks.samples import ROW_TITLES, Goal, Outcome, Samples, ratio
from ktrdr.database.pool import connection_arguments, make_pool
from ktrdr.operations.drain_requests import DrainStore
from ktrdr.operations.leases import LeaseStore
from ktrdr.operations.queue import make_worker_app, serve_queue
from ktrdr.operations.shared_directory import SharedDirectory
from ktrdr.operations.store import OperationStore
from ktrdr.schemas import OperationRequest, OperationType, WorkerType
from ktrdr.secret import Secret
from ktrdr.settings import Settings, WorkerSettings
from ktrdr.workers.child_check import ChildCheck
from ktrdr.workers.supervision import Supervisor
from tests.integration.identities import ADA

REQUEST = OperationRequest(
    operation_type=OperationType.BACKTEST, parameters=dict(SMALLEST_BACKTEST)
)
RESULT = {"summary": {}, "directory": "none", "files": [], "report": "none"}
WARM_UP = 20
# A worker still cleans up after the start of an operation, which must not affect the next sample.
SETTLE_S = 0.03
TIMEOUT_S = 60.0
POOL_SIZE = 4
Sample = Callable[[], Awaitable[float]]
OpenApp = Callable[[str], AbstractAsyncContextManager[App]]


def submit_to_start(env: BenchmarkEnvironment, samples: int) -> Outcome:
    """Measure the engine and the bare queue, twice for the noise, then on the engine's pools."""
    with env.database() as settings:
        engine, bare, again, tuned = asyncio.run(_compare(settings, samples))
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


async def _compare(settings: Settings, samples: int) -> list[Samples]:
    async with (
        _engine(settings) as engine,
        _bare("bare", _default_pool(settings)) as bare,
        _bare("tuned", _engine_pool(settings)) as tuned,
    ):
        samplers = (engine, bare, bare, tuned)
        durations: list[list[float]] = [[] for _ in samplers]
        order, dice = list(range(len(samplers))), random.Random(1)
        for number in range(WARM_UP + samples):
            dice.shuffle(order)
            for index in order:
                seconds = await samplers[index]()
                if number >= WARM_UP:
                    durations[index].append(seconds)
                await asyncio.sleep(SETTLE_S)
    return [Samples(column) for column in durations]


@asynccontextmanager
async def _engine(settings: Settings) -> AsyncIterator[Sample]:
    starts: asyncio.Queue[float] = asyncio.Queue()
    async with AsyncExitStack() as stack:
        submitting = await stack.enter_async_context(
            make_pool(settings, "submits", max_size=POOL_SIZE)
        )
        working = await stack.enter_async_context(make_pool(settings, "works", max_size=POOL_SIZE))
        store, leases = OperationStore(submitting), LeaseStore(working)

        async def run(operation_id: str) -> None:
            claim = await leases.claim(operation_id, worker_id="w", lease_s=30)
            assert claim is not None
            starts.put_nowait(time.perf_counter())
            await leases.complete(claim.lease, RESULT)

        async def sample() -> float:
            start = time.perf_counter()
            await store.submit([REQUEST], by=ADA)
            return await asyncio.wait_for(starts.get(), TIMEOUT_S) - start

        queue = make_worker_app(working, run)
        worker = serve_queue(
            queue, working, worker_id="w", worker_type=WorkerType.BACKTESTING, grace_s=1
        )
        await stack.enter_async_context(_running(worker))
        yield sample


@asynccontextmanager
async def _bare(name: str, open_app: OpenApp) -> AsyncIterator[Sample]:
    starts: asyncio.Queue[float] = asyncio.Queue()
    async with AsyncExitStack() as stack:
        deferring = await stack.enter_async_context(open_app(f"{name} defers"))
        app = await stack.enter_async_context(open_app(f"{name} runs"))

        async def started(operation_id: str) -> None:  # noqa: ARG001  # the queue's
            starts.put_nowait(time.perf_counter())

        app.task(name=name, queue=name)(started)
        deferrer = deferring.configure_task(name, queue=name, allow_unknown=True)

        async def sample() -> float:
            start = time.perf_counter()
            await deferrer.defer_async(operation_id="x")
            return await asyncio.wait_for(starts.get(), TIMEOUT_S) - start

        # As the engine's worker is configured.
        worker = app.run_worker_async(
            queues=[name],
            concurrency=1,
            fetch_job_polling_interval=1.0,
            delete_jobs="always",
            install_signal_handlers=False,
        )
        await stack.enter_async_context(_running(worker))
        yield sample


def _default_pool(settings: Settings) -> OpenApp:
    """Return procrastinate's default: a pool of its own with the driver's default settings."""

    @asynccontextmanager
    async def open_app(application: str) -> AsyncIterator[App]:
        arguments = connection_arguments(settings, application)
        del arguments["prepare_threshold"]
        connector = PsycopgConnector(kwargs=arguments, min_size=1, max_size=POOL_SIZE)
        async with App(connector=connector).open_async() as app:
            yield app

    return open_app


def _engine_pool(settings: Settings) -> OpenApp:
    @asynccontextmanager
    async def open_app(application: str) -> AsyncIterator[App]:
        async with (
            make_pool(settings, application, max_size=POOL_SIZE) as pool,
            App(connector=PsycopgConnector()).open_async(pool) as app,
        ):
            yield app

    return open_app


@asynccontextmanager
async def _running(work: Awaitable[None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def submit_to_work(env: BenchmarkEnvironment, samples: int) -> Outcome:
    """Measure the time until the child process exists, and until its first progress report."""
    with env.open_runtime() as runtime:
        import_bars(runtime.client(runtime.backend()))
        children, reports = asyncio.run(
            _measure_start_up(runtime.settings, runtime.shared, samples)
        )
    outcome = Outcome("submit to work, with a real child process", ("", *ROW_TITLES))
    outcome.rows = [
        ["submitted to child process started", *children.row],
        ["submitted to first progress report", *reports.row],
    ]
    outcome.notes = ["most of the second figure is the import of pandas and bt in the child"]
    return outcome


async def _measure_start_up(
    settings: Settings, shared: Path, samples: int
) -> tuple[Samples, Samples]:
    worker_settings = WorkerSettings(
        **{**settings.model_dump(), "shared_mount_path": shared},
        ktrdr_api_url=HttpUrl("http://127.0.0.1:1"),
        worker_type=WorkerType.BACKTESTING,
        worker_port=1,
        worker_public_base_url=HttpUrl("http://127.0.0.1:1"),
        worker_token=Secret("never used here"),
    )
    children, reports = [], []
    async with AsyncExitStack() as stack:
        submitting = await stack.enter_async_context(
            make_pool(settings, "submits", max_size=POOL_SIZE)
        )
        working = await stack.enter_async_context(make_pool(settings, "works", max_size=POOL_SIZE))
        marked = SharedDirectory(worker_settings, working, creates_mark=True)
        check = ChildCheck(worker_settings)
        supervisor = Supervisor(
            worker_settings, "w", LeaseStore(working), DrainStore(working), marked, check
        )
        store, queue = OperationStore(submitting), make_worker_app(working, supervisor.run)
        worker = serve_queue(
            queue, working, worker_id="w", worker_type=WorkerType.BACKTESTING, grace_s=1
        )
        await stack.enter_async_context(_running(worker))
        for _ in range(samples):
            start = time.perf_counter()
            await store.submit([REQUEST], by=ADA)
            child = report = None
            while report is None:
                await asyncio.sleep(0.0005)
                current = supervisor.current
                if child is None and current is not None and current.child is not None:
                    child = time.perf_counter() - start
                if current is not None and current.progress is not None:
                    report = time.perf_counter() - start
            assert child is not None
            children.append(child)
            reports.append(report)
            while supervisor.current is not None:
                await asyncio.sleep(0.01)
    return Samples(children), Samples(reports)
