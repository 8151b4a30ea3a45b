"""What one backend at a time does for all: health checks, expired leases, leftovers, gauges."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import psycopg
from psycopg import AsyncConnection

from ktrdr.database.pool import connection_arguments
from ktrdr.errors import DatabaseUnavailable, HostNotReady
from ktrdr.fleet.health import HealthChecker
from ktrdr.marketdata.store import remove_abandoned_imports
from ktrdr.operations.leases import LeaseBook
from ktrdr.operations.store import OperationStore
from ktrdr.operations.sweeping import sweep
from ktrdr.schemas import OperationStatus
from ktrdr.settings import BackendSettings
from ktrdr.telemetry import metrics

logger = logging.getLogger(__name__)

LEADER_LOCK: Final = 0x6B74_7264_73
REAP_EVERY_S: Final = 2.0


class Upkeep:
    """The recurring work of a backend."""

    def __init__(
        self,
        settings: BackendSettings,
        checker: HealthChecker,
        leases: LeaseBook,
        store: OperationStore,
    ) -> None:
        self._settings = settings
        self._checker = checker
        self._leases = leases
        self._store = store

    async def run(self) -> None:
        """Works while this backend is the leader, and waits to become it while it is not."""
        while True:
            try:
                await self._lead()
            except (psycopg.OperationalError, DatabaseUnavailable) as exc:
                metrics.database_up.set(0)
                logger.warning("upkeep waits for the database (%s)", type(exc).__name__)
            except Exception:
                # A fault in one round must not end all later ones.
                logger.exception("a round of upkeep failed")
            await asyncio.sleep(REAP_EVERY_S)

    async def _lead(self) -> None:
        """Holds the leader's lock for as long as the connection lives."""
        arguments = connection_arguments(self._settings, "ktrdr-upkeep")
        connection = await AsyncConnection.connect(**arguments, autocommit=True)
        async with connection, _one_at_a_time() as checking, _one_at_a_time() as sweeping:
            next_check = next_sweep = 0.0
            while await _is_leader(connection):
                metrics.database_up.set(1)
                expired = await self._leases.reap()
                metrics.leases_expired.inc(len(expired))
                # Silent workers and a directory that hangs take their time; expired leases do not
                # wait for them.
                if time.monotonic() >= next_check and checking(self._check):
                    next_check = time.monotonic() + self._settings.health_check_interval_s
                if time.monotonic() >= next_sweep and sweeping(self._sweep):
                    next_sweep = time.monotonic() + self._settings.sweep_every_s
                await self._measure()
                await asyncio.sleep(min(REAP_EVERY_S, self._settings.health_check_interval_s))

    async def _check(self) -> None:
        await self._checker.check_all(datetime.now(UTC))

    async def _sweep(self) -> None:
        """Removes files that killed workers have left behind."""
        shared = self._settings.shared_mount_path
        try:
            removed = await sweep(self._store, shared)
            await asyncio.to_thread(remove_abandoned_imports, shared / "data")
        except (HostNotReady, OSError) as exc:
            logger.warning("leftovers stay until the next sweep: %s", exc)
            return
        if removed:
            logger.info("removed %d leftovers of attempts that nobody finishes", len(removed))

    async def _measure(self) -> None:
        metrics.operations_unfinished.clear()
        metrics.oldest_pending.clear()
        for row in await self._store.backlog():
            kind, status = row["operation_type"], row["status"]
            metrics.operations_unfinished.labels(kind, status).set(row["number"])
            if status == OperationStatus.PENDING:
                metrics.oldest_pending.labels(kind).set(float(row["oldest_s"]))


@asynccontextmanager
async def _one_at_a_time() -> AsyncIterator[Callable[[Callable[[], Awaitable[None]]], bool]]:
    """Starts work beside the block, unless the last one is still at it; all ends with the block.

    What the last one raised is raised by the next start.
    """
    task: asyncio.Future[None] | None = None

    def start(work: Callable[[], Awaitable[None]]) -> bool:
        nonlocal task
        if task is not None:
            if not task.done():
                return False
            task.result()
        task = asyncio.ensure_future(work())
        return True

    try:
        yield start
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _is_leader(connection: AsyncConnection) -> bool:
    # Taking a lock that is ours already only counts up, so it is asked about first.
    cursor = await connection.execute(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        " AND ((classid::bigint << 32) | objid::bigint) = %(lock)s)"
        " OR pg_try_advisory_lock(%(lock)s)",
        {"lock": LEADER_LOCK},
    )
    row = await cursor.fetchone()
    return bool(row and row[0])
