"""Benchmark of operations per second, from the HTTP request to the result."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import httpx

from benchmarks.runtime.ground import SMALLEST_BACKTEST, Ground
from benchmarks.samples import ROW_TITLES, SPREAD_TITLES, Outcome, Samples, spread
from ktrdr.database.pool import make_pool, transaction
from ktrdr.schemas import OperationRequest, OperationType
from ktrdr.tokens import Role
from tests.integration.processes import Process, Site, token

REQUEST = OperationRequest(
    operation_type=OperationType.BACKTEST, parameters=dict(SMALLEST_BACKTEST)
)
CLIENTS = 8
PATIENCE_S = 600.0


def measure_throughput(ground: Ground, operations: int, rounds: int) -> Outcome:
    """Submit operations with eight clients, while workers without a child complete them."""
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
    outcome = Outcome("operations per second, HTTP to result, without work", ("", *SPREAD_TITLES))
    outcome.rows = [
        [f"{workers} worker(s)", *spread(rates, ".0f")] for workers, rates in figures.items()
    ]
    times = Samples(submits)
    outcome.notes = [
        f"{operations} operations per round; each worker is a process that claims and completes",
        f"POST /operations by {CLIENTS} clients in parallel: "
        + ", ".join(f"{t} {v}" for t, v in zip(ROW_TITLES, times.row, strict=True)),
    ]
    return outcome


async def _submit(backend: Process, number: int) -> list[float]:
    """Submit operations; return the duration of each request in seconds."""
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
        time.sleep(2)  # until all listen; a late worker would only be slower
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait(10)
        log.close()
