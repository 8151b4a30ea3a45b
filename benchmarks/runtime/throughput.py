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

from benchmarks.runtime.environment import SMALLEST_BACKTEST, BenchmarkEnvironment
from benchmarks.samples import ROW_TITLES, SPREAD_TITLES, Outcome, Samples, spread
from ktrdr.database.pool import make_pool, transaction
from ktrdr.schemas import OperationRequest, OperationType
from ktrdr.tokens import Role
from tests.integration.processes import Runtime, ServerProcess, token

REQUEST = OperationRequest(
    operation_type=OperationType.BACKTEST, parameters=dict(SMALLEST_BACKTEST)
)
CLIENTS = 8
TIMEOUT_S = 600.0


def measure_throughput(env: BenchmarkEnvironment, operations: int, rounds: int) -> Outcome:
    """Measure operations that eight clients submit while workers without a child complete them."""
    figures: dict[int, list[float]] = {1: [], 2: []}
    submits: list[float] = []
    with env.open_runtime() as runtime:
        backend = runtime.backend()
        for _ in range(rounds):
            for workers, rates in figures.items():
                with _noop_workers(runtime, workers):
                    start = time.perf_counter()
                    submits += asyncio.run(_submit(backend, operations))
                    asyncio.run(_wait_until_done(runtime))
                    rates.append(operations / (time.perf_counter() - start))
    outcome = Outcome(
        "operations per second, HTTP to result, without computation", ("", *SPREAD_TITLES)
    )
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


async def _submit(backend: ServerProcess, number: int) -> list[float]:
    """Submit operations and return the seconds of each request."""
    body, remaining = REQUEST.model_dump(mode="json"), iter(range(number))
    headers = {"Authorization": f"Bearer {token(Role.OPERATOR).reveal()}"}

    async def run_client(client: httpx.AsyncClient) -> list[float]:
        durations = []
        for _ in remaining:
            start = time.perf_counter()
            response = await client.post("/api/v1/operations", json=body)
            response.raise_for_status()
            durations.append(time.perf_counter() - start)
        return durations

    async with httpx.AsyncClient(
        base_url=backend.url, headers=headers, timeout=30, trust_env=False
    ) as client:
        durations = await asyncio.gather(*(run_client(client) for _ in range(CLIENTS)))
    return list(chain.from_iterable(durations))


async def _wait_until_done(runtime: Runtime) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    async with make_pool(runtime.settings, "observer", max_size=1) as pool:
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
    raise TimeoutError(f"the operations did not end within {TIMEOUT_S:.0f} s")


@contextmanager
def _noop_workers(runtime: Runtime, number: int) -> Iterator[None]:
    log = (runtime.logs / "noop.log").open("ab")
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.runtime.noop_worker", f"noop-{index}"],
            env=runtime.environment(),
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
