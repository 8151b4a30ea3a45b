"""Checks every worker's health, one shortly after another, every few seconds."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Final

import httpx
from pydantic import ValidationError

from ktrdr.fleet.registry import WorkerRegistry
from ktrdr.schemas import Worker, WorkerHealth
from ktrdr.settings import BackendSettings
from ktrdr.telemetry import metrics

# Workers take a check under this name as a sign that the backend knows them.
USER_AGENT: Final = "ktrdr-backend"
# The step from one check to the next; shorter where so many would not fit into a round.
LONGEST_STEP_S: Final = 0.01
PART_OF_ROUND: Final = 0.8
# A silent worker takes its whole time-out; what the others said is not to wait for that.
NOTE_EVERY_S: Final = 0.5


class Verdict(Enum):
    """What follows from a failed check."""

    STRIKE = auto()
    UNAVAILABLE = auto()
    FORGET = auto()


@dataclass(frozen=True, slots=True)
class Rules:
    """When a silent worker is unavailable, and when it is forgotten."""

    failures: int
    forget_after_s: float

    def verdict(self, worker: Worker, now: datetime) -> Verdict:
        """Decides about a worker whose check has just failed once more."""
        since = worker.last_healthy_at or worker.registered_at
        if (now - since).total_seconds() > self.forget_after_s:
            return Verdict.FORGET
        if worker.health_check_failures + 1 >= self.failures:
            return Verdict.UNAVAILABLE
        return Verdict.STRIKE


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of asking one worker: its answer, or what follows from there being none.

    Attributes:
        clock_skew_s: How far its clock is ahead of ours, to about a second.
    """

    worker: Worker
    health: WorkerHealth | None
    verdict: Verdict | None
    clock_skew_s: float | None = None


def clock_skew_s(answer: httpx.Response, now: datetime) -> float | None:
    """How far the clock of whoever answered is ahead, by its ``Date`` header (RFC 9110, 6.6.1).

    The header is cut to whole seconds, so half of one is added.
    """
    try:
        said = parsedate_to_datetime(answer.headers.get("Date", ""))
        return round((said - now).total_seconds() + 0.5, 1)
    except (ValueError, TypeError):
        return None


class HealthChecker:
    """Looks after the workers of a registry."""

    def __init__(self, registry: WorkerRegistry, settings: BackendSettings) -> None:
        self._registry = registry
        self._timeout_s = settings.health_check_timeout_s
        self._interval_s = settings.health_check_interval_s
        self._rules = Rules(settings.health_check_failures, settings.worker_forget_after_s)
        # Workers speak plain HTTP. Loading the authorities' certificates would take 20 ms a round.
        self._trusting_nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    async def check_all(self, now: datetime) -> None:
        """One round: every worker is asked, and what it said or did not say is noted."""
        workers = await self._registry.workers()
        findings: list[Finding] = []
        async with self._client() as client:
            asked = asyncio.Event()
            noting = asyncio.create_task(self._note_now_and_then(findings, asked))
            try:
                async with asyncio.TaskGroup() as checks:
                    async for worker in self._in_turn(workers):
                        checks.create_task(self._check(client, worker, now, findings))
            finally:
                # Not cancelled: what it has taken to write down would be forgotten.
                asked.set()
                await noting
        await self._note(findings)
        await self._count()

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            timeout=httpx.Timeout(self._timeout_s),
            headers={"User-Agent": USER_AGENT},
            verify=self._trusting_nobody,
            # However many there are, none waits for another's turn: the time-out is each one's own.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            # What is between us and the workers is the homelab's own network.
            trust_env=False,
        )

    async def _in_turn(self, workers: Sequence[Worker]) -> AsyncIterator[Worker]:
        """Each when it is to be asked: evenly over the round, so that others get between."""
        step = min(LONGEST_STEP_S, self._interval_s * PART_OF_ROUND / max(len(workers), 1))
        began = time.monotonic()
        for index, worker in enumerate(workers):
            await asyncio.sleep(began + index * step - time.monotonic())
            yield worker

    async def _check(
        self, client: httpx.AsyncClient, worker: Worker, now: datetime, findings: list[Finding]
    ) -> None:
        try:
            answer = await client.get(f"{worker.endpoint_url}/health")
            answer.raise_for_status()
            health = WorkerHealth.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError):
            metrics.worker_health_checks.labels("failed").inc()
            findings.append(Finding(worker, None, self._rules.verdict(worker, now)))
            return
        metrics.worker_health_checks.labels("passed").inc()
        if health.worker_id == worker.worker_id:
            skew_s = clock_skew_s(answer, datetime.now(UTC))
            findings.append(Finding(worker, health, None, skew_s))
        else:
            findings.append(Finding(worker, None, self._rules.verdict(worker, now)))

    async def _note_now_and_then(self, findings: list[Finding], asked: asyncio.Event) -> None:
        """Writes down what has been found, until all have been ``asked``."""
        while not asked.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(NOTE_EVERY_S):
                    await asked.wait()
            await self._note(findings)

    async def _note(self, findings: list[Finding]) -> None:
        """Takes all findings there are and writes them down at once."""
        noted, findings[:] = findings[:], []
        if not noted:
            return
        await self._registry.mark_healthy(
            [
                (each.worker, each.health, each.clock_skew_s)
                for each in noted
                if each.health is not None
            ]
        )
        await self._registry.mark_unhealthy(
            [
                (each.worker, each.verdict is Verdict.UNAVAILABLE)
                for each in noted
                if each.verdict in (Verdict.STRIKE, Verdict.UNAVAILABLE)
            ]
        )
        for each in noted:
            if each.verdict is Verdict.FORGET:
                await self._registry.forget(each.worker, after_s=self._rules.forget_after_s)

    async def _count(self) -> None:
        counted = Counter(
            (worker.worker_type.value, worker.status.value)
            for worker in await self._registry.workers()
        )
        metrics.workers.clear()
        for labels, number in counted.items():
            metrics.workers.labels(*labels).set(number)
