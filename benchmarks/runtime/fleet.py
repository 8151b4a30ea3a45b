"""Benchmark of a backend with up to a thousand workers, checked every ten seconds."""

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

from benchmarks.runtime.ground import Ground
from benchmarks.runtime.simulated_workers import HOST, name_of
from benchmarks.samples import Goal, Outcome, Samples
from ktrdr.tokens import Role
from tests.integration.processes import Process, token, wait_for

LIMIT_MS = 100.0
INTERVAL_S = 10.0
# As if a thousand workers had restarted within two minutes, while some people watch.
REGISTRATIONS_A_SECOND = 8.0
LISTINGS_A_SECOND = 4.0
WORKERS = "/api/v1/workers"


@dataclass
class Load:
    """Durations of requests, and the number of refused requests, during the health checks."""

    listing: list[float]
    registering: list[float]
    refused: int = 0


def measure_fleet(ground: Ground, sizes: Sequence[int], seconds: float) -> Outcome:
    """Measure listing, registering and the backend's memory by number of workers."""
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
    with ground.site() as place, _simulated(max(sizes)) as ports:
        backend = place.backend(HEALTH_CHECK_INTERVAL_S=str(INTERVAL_S), HEALTH_CHECK_TIMEOUT_S="5")
        for size in sizes:
            asyncio.run(_register(backend, ports[:size]))
            client = place.client(backend)
            _wait_for_a_round(backend, size)
            cpu, checks = _cpu_s(backend), _passed(backend)
            began = time.monotonic()
            load = asyncio.run(_load(backend, ports[:size], seconds))
            passed = time.monotonic() - began
            cpu = (_cpu_s(backend) - cpu) / passed
            checks = (_passed(backend) - checks) / passed * INTERVAL_S
            refused += load.refused
            known = client.list_workers()
            assert len(known) == size
            assert all(each.health_check_failures == 0 for each in known), "a check was missed"
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
        f"each size for {seconds:.0f} s: {LISTINGS_A_SECOND:.0f} listings and "
        f"{REGISTRATIONS_A_SECOND:.0f} registrations a second beside the health checks, "
        f"{len(load.listing)} and {len(load.registering)} samples; checks are those of a round of "
        f"{INTERVAL_S:.0f} s, CPU is of one processor",
    ]
    return outcome


@contextmanager
def _simulated(count: int) -> Iterator[list[int]]:
    """Run ``count`` simulated workers; provide their ports."""
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
        "worker_id": name_of(port),
        "worker_type": "backtesting",
        "endpoint_url": f"http://{HOST}:{port}",
        "capabilities": {"operations": ["backtesting"]},
        "version": "sha-7e57ed0",
    }


def _client(backend: Process, role: Role) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token(role).reveal()}"}
    return httpx.AsyncClient(base_url=backend.url, headers=headers, timeout=30, trust_env=False)


async def _register(backend: Process, ports: Sequence[int]) -> None:
    async with _client(backend, Role.WORKER) as client:
        for port in ports:
            answer = await client.post(f"{WORKERS}/register", json=_registration(port))
            answer.raise_for_status()


async def _load(backend: Process, ports: Sequence[int], seconds: float) -> Load:
    """Send requests at a fixed rate, without waiting for earlier responses."""
    load = Load([], [])
    async with _client(backend, Role.READER) as reads, _client(backend, Role.WORKER) as registers:

        async def note(taken: list[float], request: Awaitable[httpx.Response]) -> None:
            began = time.perf_counter()
            answer = await request
            taken.append(time.perf_counter() - began)
            load.refused += not answer.is_success

        async def look(number: int) -> None:
            await asyncio.sleep(number / LISTINGS_A_SECOND)
            await note(load.listing, reads.get(WORKERS))

        async def register(number: int) -> None:
            await asyncio.sleep(number / REGISTRATIONS_A_SECOND)
            body = _registration(ports[number % len(ports)])
            await note(load.registering, registers.post(f"{WORKERS}/register", json=body))

        await asyncio.gather(
            *(look(number) for number in range(round(seconds * LISTINGS_A_SECOND))),
            *(register(number) for number in range(round(seconds * REGISTRATIONS_A_SECOND))),
        )
    return load


def _passed(backend: Process) -> float:
    """Return the number of successful health checks since the backend started."""
    page = httpx.get(f"{backend.url}/metrics", timeout=30, trust_env=False).text
    name = 'ktrdr_worker_health_checks_total{outcome="passed"}'
    found = [line for line in page.splitlines() if line.startswith(name)]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


def _wait_for_a_round(backend: Process, size: int) -> None:
    before = _passed(backend)
    wait_for("a round of checks", lambda: _passed(backend) >= before + size, 60)


def _status(backend: Process, name: str) -> str:
    lines = Path(f"/proc/{backend.popen.pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def _resident_mb(backend: Process) -> float:
    return int(_status(backend, "VmRSS")) / 1024


def _cpu_s(backend: Process) -> float:
    """Return the processor time of the backend in seconds."""
    fields = Path(f"/proc/{backend.popen.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
