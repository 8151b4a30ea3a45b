"""Health checks of all workers, spread over an interval of a few seconds."""

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

# A request with this name tells a worker that the backend knows it.
USER_AGENT: Final = "ktrdr-backend"
# Pause between two checks; shorter if many workers would not fit into the interval.
MAX_STEP_S: Final = 0.01
USED_SHARE_OF_INTERVAL: Final = 0.8
# Results are recorded this often, so that they need not wait for an unresponsive worker's time-out.
RECORD_EVERY_S: Final = 0.5


class FailureAction(Enum):
    """Consequence of a failed health check."""

    COUNT = auto()
    MARK_UNAVAILABLE = auto()
    REMOVE = auto()


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """Policy that decides when an unresponsive worker is unavailable, and when it is removed.

    Attributes:
        max_failures: Failed checks in a row after which a worker is unavailable.
        remove_after_s: Seconds without a passed check after which a worker is removed.
    """

    max_failures: int
    remove_after_s: float

    def decide(self, worker: Worker, now: datetime) -> FailureAction:
        """Decide about a worker whose check has just failed."""
        last_healthy_at = worker.last_healthy_at or worker.registered_at
        if (now - last_healthy_at).total_seconds() > self.remove_after_s:
            return FailureAction.REMOVE
        if worker.health_check_failures + 1 >= self.max_failures:
            return FailureAction.MARK_UNAVAILABLE
        return FailureAction.COUNT


@dataclass(frozen=True, slots=True)
class HealthCheckResult:
    """Result of a worker's health check.

    Attributes:
        worker: Checked worker.
        health: Worker's response, or None if the check failed.
        failure_action: Consequence of a failed check, or None.
        clock_skew_s: Seconds by which the worker's clock is ahead, to about a second.
    """

    worker: Worker
    health: WorkerHealth | None
    failure_action: FailureAction | None
    clock_skew_s: float | None = None


def measure_clock_skew_s(response: httpx.Response, now: datetime) -> float | None:
    """Return the seconds by which a server's clock is ahead, or None without a valid ``Date``.

    The header has whole seconds (RFC 9110, 6.6.1), rounded down, so half a second is added.
    """
    try:
        server_time = parsedate_to_datetime(response.headers.get("Date", ""))
        return round((server_time - now).total_seconds() + 0.5, 1)
    except (ValueError, TypeError):
        return None


class WorkerHealthChecker:
    """Health checks of the workers of a registry."""

    def __init__(self, registry: WorkerRegistry, settings: BackendSettings) -> None:
        self._registry = registry
        self._timeout_s = settings.health_check_timeout_s
        self._interval_s = settings.health_check_interval_s
        self._policy = HealthPolicy(settings.health_check_failures, settings.worker_forget_after_s)
        # Workers speak plain HTTP. Loading the authorities' certificates would take 20 ms a round.
        self._empty_ssl_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    async def check_all(self, now: datetime) -> None:
        """Check every worker once and record the results."""
        workers = await self._registry.list_workers()
        results: list[HealthCheckResult] = []
        async with self._client() as client:
            all_checked = asyncio.Event()
            recorder = asyncio.create_task(self._record_periodically(results, all_checked))
            try:
                async with asyncio.TaskGroup() as checks:
                    async for worker in self._pace(workers):
                        checks.create_task(self._check(client, worker, now, results))
            finally:
                # Not cancelled, because that would lose the results that it is recording.
                all_checked.set()
                await recorder
        await self._record(results)
        await self._update_gauge()

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            timeout=httpx.Timeout(self._timeout_s),
            headers={"User-Agent": USER_AGENT},
            verify=self._empty_ssl_context,
            # Without a limit no check waits for another, so the time-out applies to each alone.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            # Workers are on the homelab's own network, so no proxy applies.
            trust_env=False,
        )

    async def _pace(self, workers: Sequence[Worker]) -> AsyncIterator[Worker]:
        """Yield the workers evenly over the interval, so that requests are served in between."""
        step_s = min(MAX_STEP_S, self._interval_s * USED_SHARE_OF_INTERVAL / max(len(workers), 1))
        start = time.monotonic()
        for index, worker in enumerate(workers):
            await asyncio.sleep(start + index * step_s - time.monotonic())
            yield worker

    async def _check(
        self,
        client: httpx.AsyncClient,
        worker: Worker,
        now: datetime,
        results: list[HealthCheckResult],
    ) -> None:
        health, skew_s = None, None
        try:
            response = await client.get(f"{worker.endpoint_url}/health")
            response.raise_for_status()
            health = WorkerHealth.model_validate_json(response.content)
            metrics.worker_health_checks.labels("passed").inc()
        except (httpx.HTTPError, ValidationError):
            metrics.worker_health_checks.labels("failed").inc()
        if health is not None and health.worker_id == worker.worker_id:
            skew_s = measure_clock_skew_s(response, datetime.now(UTC))
            results.append(HealthCheckResult(worker, health, None, skew_s))
        else:
            action = self._policy.decide(worker, now)
            results.append(HealthCheckResult(worker, None, action))

    async def _record_periodically(
        self, results: list[HealthCheckResult], all_checked: asyncio.Event
    ) -> None:
        while not all_checked.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(RECORD_EVERY_S):
                    await all_checked.wait()
            await self._record(results)

    async def _record(self, results: list[HealthCheckResult]) -> None:
        """Record the results so far, and remove them from the list."""
        batch, results[:] = results[:], []
        if not batch:
            return
        await self._registry.mark_healthy(
            [
                (result.worker, result.health, result.clock_skew_s)
                for result in batch
                if result.health is not None
            ]
        )
        await self._registry.mark_unhealthy(
            [
                (result.worker, result.failure_action is FailureAction.MARK_UNAVAILABLE)
                for result in batch
                if result.failure_action in (FailureAction.COUNT, FailureAction.MARK_UNAVAILABLE)
            ]
        )
        for result in batch:
            if result.failure_action is FailureAction.REMOVE:
                await self._registry.remove_unhealthy(
                    result.worker, after_s=self._policy.remove_after_s
                )

    async def _update_gauge(self) -> None:
        counts = Counter(
            (worker.worker_type.value, worker.state.replace(" ", "_"))
            for worker in await self._registry.list_workers()
        )
        metrics.workers.clear()
        for labels, count in counts.items():
            metrics.workers.labels(*labels).set(count)
