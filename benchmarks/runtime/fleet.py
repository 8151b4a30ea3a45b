"""Benchmark of one backend that checks up to a thousand workers every ten seconds."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.runtime.environment import BenchmarkEnvironment
from benchmarks.runtime.simulated_workers import HOST, simulated_worker_id
from benchmarks.samples import Goal, Outcome, Samples
from ktrdr.tokens import Role
from tests.integration.processes import ServerProcess, token, wait_for

LIMIT_MS = 100.0
INTERVAL_S = 10.0
# As if a thousand workers had restarted within two minutes while some users list them.
REGISTRATIONS_PER_S = 8.0
LISTINGS_PER_S = 4.0
WORKERS = "/api/v1/workers"


@dataclass
class LoadResult:
    """Durations of requests while the backend checked its workers.

    Attributes:
        listing: Seconds of each listing.
        registering: Seconds of each registration.
        refused: Number of failed requests.
    """

    listing: list[float]
    registering: list[float]
    refused: int = 0


def measure_growing_fleet(
    env: BenchmarkEnvironment, sizes: Sequence[int], seconds: float
) -> Outcome:
    """Measure listing and registration, and the backend's memory, by fleet size."""
    outcome = Outcome(
        "one backend, many workers",
        (
            "workers",
            "GET p50 ms",
            "GET p99 ms",
            "register p50 ms",
            "register p99 ms",
            "checks",
            "backend CPU",
            "backend MB",
        ),
    )
    refused = 0
    with env.open_runtime() as runtime, _run_simulated_workers(max(sizes)) as ports:
        backend = runtime.backend(
            HEALTH_CHECK_INTERVAL_S=str(INTERVAL_S), HEALTH_CHECK_TIMEOUT_S="5"
        )
        for size in sizes:
            asyncio.run(_register(backend, ports[:size]))
            client = runtime.client(backend)
            _wait_for_a_round(backend, size)
            cpu, checks = _cpu_s(backend), _count_passed_checks(backend)
            start = time.monotonic()
            load = asyncio.run(_generate_load(backend, ports[:size], seconds))
            passed = time.monotonic() - start
            cpu = (_cpu_s(backend) - cpu) / passed
            checks = (_count_passed_checks(backend) - checks) / passed * INTERVAL_S
            refused += load.refused
            workers = client.list_workers()
            assert len(workers) == size
            assert all(worker.health_check_failures == 0 for worker in workers), (
                "a check was missed"
            )
            listing, registering = Samples(load.listing), Samples(load.registering)
            outcome.rows.append(
                [
                    f"{size:,}",
                    *(f"{listing.percentile(share):.1f}" for share in (0.5, 0.99)),
                    *(f"{registering.percentile(share):.1f}" for share in (0.5, 0.99)),
                    f"{checks:,.0f}",
                    f"{cpu:.0%}",
                    f"{_resident_mb(backend):.0f}",
                ]
            )
        outcome.goals = [
            Goal(f"GET /workers of {size:,}, p99", LIMIT_MS, listing.percentile(0.99), "ms"),
            Goal(f"registering among {size:,}, p99", LIMIT_MS, registering.percentile(0.99), "ms"),
            Goal("requests refused while the fleet grew", 0, refused, "requests"),
        ]
    outcome.notes = [
        f"each size for {seconds:.0f} s: {LISTINGS_PER_S:.0f} listings and "
        f"{REGISTRATIONS_PER_S:.0f} registrations a second beside the health checks, "
        f"{len(load.listing)} and {len(load.registering)} samples; checks are those of a round of "
        f"{INTERVAL_S:.0f} s, CPU is of one processor",
    ]
    return outcome


@contextmanager
def _run_simulated_workers(count: int) -> Iterator[list[int]]:
    """Run simulated workers during the block, and provide their ports."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.runtime.simulated_workers", str(count)],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield [int(process.stdout.readline()) for _ in range(count)]
    finally:
        process.kill()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def _registration(port: int) -> dict[str, object]:
    return {
        "worker_id": simulated_worker_id(port),
        "worker_type": "backtesting",
        "endpoint_url": f"http://{HOST}:{port}",
        "capabilities": {"operations": ["backtesting"]},
        "version": "sha-7e57ed0",
    }


def _client(backend: ServerProcess, role: Role) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token(role).reveal()}"}
    return httpx.AsyncClient(base_url=backend.url, headers=headers, timeout=30, trust_env=False)


async def _register(backend: ServerProcess, ports: Sequence[int]) -> None:
    async with _client(backend, Role.WORKER) as client:
        for port in ports:
            response = await client.post(f"{WORKERS}/register", json=_registration(port))
            response.raise_for_status()


async def _generate_load(
    backend: ServerProcess, ports: Sequence[int], seconds: float
) -> LoadResult:
    """Send requests at a fixed pace, without waiting for earlier responses."""
    load = LoadResult([], [])
    async with _client(backend, Role.READER) as reads, _client(backend, Role.WORKER) as registers:

        async def measure(durations: list[float], request: Awaitable[httpx.Response]) -> None:
            start = time.perf_counter()
            response = await request
            durations.append(time.perf_counter() - start)
            load.refused += not response.is_success

        async def list_workers(number: int) -> None:
            await asyncio.sleep(number / LISTINGS_PER_S)
            await measure(load.listing, reads.get(WORKERS))

        async def register(number: int) -> None:
            await asyncio.sleep(number / REGISTRATIONS_PER_S)
            body = _registration(ports[number % len(ports)])
            await measure(load.registering, registers.post(f"{WORKERS}/register", json=body))

        await asyncio.gather(
            *(list_workers(number) for number in range(round(seconds * LISTINGS_PER_S))),
            *(register(number) for number in range(round(seconds * REGISTRATIONS_PER_S))),
        )
    return load


def _count_passed_checks(backend: ServerProcess) -> float:
    """Return the number of health checks that have passed since the backend started."""
    page = httpx.get(f"{backend.url}/metrics", timeout=30, trust_env=False).text
    name = 'ktrdr_worker_health_checks_total{outcome="passed"}'
    lines = [line for line in page.splitlines() if line.startswith(name)]
    return float(lines[0].rpartition(" ")[2]) if lines else 0.0


def _wait_for_a_round(backend: ServerProcess, size: int) -> None:
    before = _count_passed_checks(backend)
    wait_for("a round of checks", lambda: _count_passed_checks(backend) >= before + size, 60)


def _status(backend: ServerProcess, name: str) -> str:
    lines = Path(f"/proc/{backend.popen.pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def _resident_mb(backend: ServerProcess) -> float:
    return int(_status(backend, "VmRSS")) / 1024


def _cpu_s(backend: ServerProcess) -> float:
    """Return the seconds of processor time that the backend has used."""
    fields = Path(f"/proc/{backend.popen.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
