"""Operations a second, from the HTTP request to the result, over one worker and over two."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain

import httpx

from benchmarks.runtime.ground import SMALLEST_BACKTEST, Ground, bring_bars
from benchmarks.samples import ROW_TITLES, Goal, Outcome, Samples
from ktrdr.client.backend import Backend
from ktrdr.contracts import OperationRequest, OperationType
from ktrdr.database.pool import make_pool, transaction
from ktrdr.tokens import Role
from tests.integration.processes import Process, Site, token, wait_for

REQUEST = OperationRequest(
    operation_type=OperationType.BACKTEST, parameters=dict(SMALLEST_BACKTEST)
)
CLIENTS = 8
PATIENCE_S = 600.0


def through_the_engine(ground: Ground, operations: int, rounds: int) -> Outcome:
    """Submitted over HTTP by eight clients while workers without a child take and finish them."""
    figures: dict[int, list[float]] = {1: [], 2: []}
    submits: list[float] = []
    with ground.site() as place:
        backend = place.backend()
        for _ in range(rounds):
            for workers, rates in figures.items():
                with _noop_workers(place, workers):
                    began = time.perf_counter()
                    submits += asyncio.run(_submit(backend, operations))
                    asyncio.run(_until_done(place))
                    rates.append(operations / (time.perf_counter() - began))
    outcome = Outcome(
        "operations a second, HTTP to result, work left out", ("", "n", "min", "median", "max")
    )
    outcome.rows = [
        _row(f"{workers} worker(s)", rates, ".0f") for workers, rates in figures.items()
    ]
    times = Samples(submits)
    outcome.notes = [
        f"{operations} operations a round; each worker is a process that claims and completes",
        f"POST /operations by {CLIENTS} clients at once: "
        + ", ".join(f"{t} {v}" for t, v in zip(ROW_TITLES, times.row, strict=True)),
    ]
    return outcome


def of_real_backtests(ground: Ground, backtests: int, rounds: int) -> Outcome:
    """Equal smallest backtests on real workers: what a second worker brings."""
    figures: dict[int, list[float]] = {1: [], 2: []}
    with ground.site() as place:
        backend = place.backend()
        client = place.client(backend)
        bring_bars(client)
        workers: list[Process] = []
        for number in range(rounds):
            # 1, 2, then 2, 1: no worker is started or stopped within a measurement.
            for count in sorted(figures, reverse=bool(number % 2)):
                while len(workers) > count:
                    workers.pop().stop()
                while len(workers) < count:
                    workers.append(place.worker("backtest", backend))
                wait_for("registration", partial(_are_registered, client, count))
                _run_backtests(client, count)
                began = time.perf_counter()
                _run_backtests(client, backtests)
                figures[count].append(backtests / (time.perf_counter() - began))
    efficiency = statistics.median(figures[2]) / statistics.median(figures[1]) / 2
    outcome = Outcome("real backtests a minute", ("", "n", "min", "median", "max"))
    outcome.rows = [
        _row(f"{count} worker(s)", [rate * 60 for rate in rates], ".1f")
        for count, rates in figures.items()
    ]
    outcome.notes = [
        f"{backtests} equal backtests a round, of one fold each, a process of its own for each",
        f"two workers do {2 * efficiency:.2f} times the work of one, {efficiency:.0%} of the ideal;"
        " backend and database use the same processors",
    ]
    outcome.goals = [
        Goal("scaling from 1 to 2 workers", 0.7, efficiency, "of ideal", at_least=True)
    ]
    return outcome


def _are_registered(client: Backend, count: int) -> bool:
    return len(client.workers()) == count


def _run_backtests(client: Backend, number: int) -> None:
    names = {
        client.submit(REQUEST, idempotency_key=f"{time.perf_counter_ns()}").operation_id
        for _ in range(number)
    }
    wait_for(
        "the backtests",
        lambda: not names & _unfinished(client),
        PATIENCE_S,
    )
    for name in names:
        assert client.operation(name).status == "completed", client.operation(name).error


def _unfinished(client: Backend) -> set[str]:
    return {
        each.operation_id
        for status in ("pending", "running")
        for each in client.operations(status=status, limit=500).operations
    }


async def _submit(backend: Process, number: int) -> list[float]:
    """Seconds that each request took."""
    body, left = REQUEST.model_dump(mode="json"), iter(range(number))
    headers = {"Authorization": f"Bearer {token(Role.OPERATOR).reveal()}"}

    async def one_client(client: httpx.AsyncClient) -> list[float]:
        taken = []
        for _ in left:
            began = time.perf_counter()
            answer = await client.post("/api/v1/operations", json=body)
            answer.raise_for_status()
            taken.append(time.perf_counter() - began)
        return taken

    async with httpx.AsyncClient(
        base_url=backend.url, headers=headers, timeout=30, trust_env=False
    ) as client:
        taken = await asyncio.gather(*(one_client(client) for _ in range(CLIENTS)))
    return list(chain.from_iterable(taken))


async def _until_done(place: Site) -> None:
    deadline = time.monotonic() + PATIENCE_S
    async with make_pool(place.settings, "looks", max_size=1) as pool:
        while time.monotonic() < deadline:
            async with transaction(pool) as connection:
                cursor = await connection.execute(
                    "SELECT EXISTS (SELECT FROM operations"
                    " WHERE status IN ('pending', 'running')) AS unfinished"
                )
                row = await cursor.fetchone()
            if row is not None and not row["unfinished"]:
                return
            await asyncio.sleep(0.01)
    raise TimeoutError(f"the operations did not end within {PATIENCE_S:.0f} s")


@contextmanager
def _noop_workers(place: Site, number: int) -> Iterator[None]:
    log = (place.logs / "noop.log").open("ab")
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.runtime.noop_worker", f"noop-{index}"],
            env=place.environment(),
            stdout=log,
            stderr=log,
        )
        for index in range(number)
    ]
    try:
        time.sleep(2)  # until all listen; a worker that came late would only be slower
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait(10)
        log.close()


def _row(what: str, rates: list[float], form: str) -> list[str]:
    figures = (min(rates), statistics.median(rates), max(rates))
    return [what, str(len(rates)), *(format(figure, form) for figure in figures)]
