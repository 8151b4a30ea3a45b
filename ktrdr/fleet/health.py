"""Checks every worker's health, all at once, every few seconds."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Final

import httpx
from pydantic import ValidationError

from ktrdr.contracts import Worker, WorkerHealth
from ktrdr.fleet.registry import WorkerRegistry
from ktrdr.settings import BackendSettings
from ktrdr.telemetry import metrics

# Workers take a check under this name as a sign that the backend knows them.
USER_AGENT: Final = "ktrdr-backend"


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


class HealthChecker:
    """Looks after the workers of a registry."""

    def __init__(self, registry: WorkerRegistry, settings: BackendSettings) -> None:
        self._registry = registry
        self._timeout_s = settings.health_check_timeout_s
        self._rules = Rules(settings.health_check_failures, settings.worker_forget_after_s)

    async def check_all(self, now: datetime) -> None:
        """One round: every worker is asked, and what it said or did not say is noted."""
        workers = await self._registry.workers()
        timeout = httpx.Timeout(self._timeout_s)
        async with httpx.AsyncClient(timeout=timeout, headers={"User-Agent": USER_AGENT}) as client:
            await asyncio.gather(*(self._check(client, worker, now) for worker in workers))
        await self._count()

    async def _check(self, client: httpx.AsyncClient, worker: Worker, now: datetime) -> None:
        try:
            answer = await client.get(f"{worker.endpoint_url}/health")
            answer.raise_for_status()
            health = WorkerHealth.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError):
            metrics.worker_health_checks.labels("failed").inc()
            await self._judge(worker, now)
            return
        metrics.worker_health_checks.labels("passed").inc()
        if health.worker_id == worker.worker_id:
            await self._registry.mark_healthy(
                worker, version=health.version, current_operation_id=health.current_operation_id
            )
        else:
            await self._judge(worker, now)

    async def _judge(self, worker: Worker, now: datetime) -> None:
        verdict = self._rules.verdict(worker, now)
        if verdict is Verdict.FORGET:
            await self._registry.forget(worker, after_s=self._rules.forget_after_s)
        else:
            await self._registry.mark_unhealthy(
                worker,
                failures=worker.health_check_failures + 1,
                unavailable=verdict is Verdict.UNAVAILABLE,
            )

    async def _count(self) -> None:
        counted = Counter(
            (worker.worker_type.value, worker.status.value)
            for worker in await self._registry.workers()
        )
        metrics.workers.clear()
        for labels, number in counted.items():
            metrics.workers.labels(*labels).set(number)
