"""Recurring tasks of the leading backend: expired leases, health checks, removal of orphans."""

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

from ktrdr.database.pool import connection_arguments, first_line
from ktrdr.errors import DatabaseUnavailable, HostNotReady
from ktrdr.fitness import STALE_AFTER_S, Progress
from ktrdr.fleet.health import WorkerHealthChecker
from ktrdr.marketdata.store import remove_import_orphans
from ktrdr.operations.leases import LeaseStore
from ktrdr.operations.orphans import remove_orphans
from ktrdr.operations.store import OperationStore
from ktrdr.schemas import OperationStatus
from ktrdr.settings import BackendSettings
from ktrdr.telemetry import metrics

logger = logging.getLogger(__name__)

LEADER_LOCK: Final = 0x6B74_7264_73
REAP_EVERY_S: Final = 2.0
# A statement of the leader takes at most half of it.
DEAD_LEADER_S: Final = 60.0


class LeaderTasks:
    """Recurring tasks of a backend while it is the leader.

    Attributes:
        progress: Progress of the tasks, or of the waiting for another leader.
        checks: Progress of the health checks of workers.
    """

    def __init__(
        self,
        settings: BackendSettings,
        checker: WorkerHealthChecker,
        leases: LeaseStore,
        store: OperationStore,
    ) -> None:
        self._settings = settings
        self._checker = checker
        self._leases = leases
        self._store = store
        self.progress = Progress("the leader's task")
        # Two rounds may follow each other slowly, if workers do not answer.
        limit_s = 2 * settings.health_check_interval_s + settings.health_check_timeout_s
        self.checks = Progress("the health check of workers", limit_s)

    async def run(self) -> None:
        """Perform the tasks while this backend is the leader, otherwise wait to become it."""
        while True:
            try:
                await self._lead()
            except (psycopg.OperationalError, DatabaseUnavailable) as exc:
                self.progress.failed(first_line(exc))
                metrics.database_up.set(0)
                logger.warning("leader tasks wait for the database (%s)", type(exc).__name__)
            except Exception as exc:
                self.progress.failed(first_line(exc))
                # An error in one round must not prevent later rounds.
                logger.exception("a round of leader tasks failed")
            await asyncio.sleep(REAP_EVERY_S)

    async def _lead(self) -> None:
        """Perform the tasks as long as the connection holds the leader's lock."""
        arguments = connection_arguments(self._settings, "ktrdr-upkeep")
        connection = await AsyncConnection.connect(**arguments, autocommit=True)
        async with (
            connection,
            _background_task() as start_check,
            _background_task() as start_removal,
        ):
            next_check = next_removal = 0.0
            while await _is_leader(connection):
                metrics.database_up.set(1)
                metrics.leases_expired.inc(len(await self._leases.reap()))
                self.progress.made()
                # Unresponsive workers and a hanging directory take time, so these tasks run in the
                # background: expired leases must not wait for them.
                if time.monotonic() >= next_check and start_check(self._check_workers):
                    next_check = time.monotonic() + self._settings.health_check_interval_s
                if time.monotonic() >= next_removal and start_removal(self._remove_orphans):
                    next_removal = time.monotonic() + self._settings.sweep_every_s
                await self._update_gauges()
                await asyncio.sleep(min(REAP_EVERY_S, self._settings.health_check_interval_s))
            silent_s = await _leader_silence_s(connection)
            if silent_s > STALE_AFTER_S:
                self.progress.failed(f"another leader has done nothing for {silent_s:.0f} s")
            else:
                self.progress.made()
                self.checks.made()

    async def _check_workers(self) -> None:
        try:
            await self._checker.check_all(datetime.now(UTC))
        except Exception as exc:
            self.checks.failed(first_line(exc))
            raise
        self.checks.made()

    async def _remove_orphans(self) -> None:
        shared = self._settings.shared_mount_path
        try:
            orphans = await remove_orphans(self._store, shared)
            await asyncio.to_thread(remove_import_orphans, shared / "data")
        except (HostNotReady, OSError) as exc:
            logger.warning("cannot remove orphans, retrying later: %s", exc)
            return
        if orphans:
            logger.info("removed %d orphans of ended attempts", len(orphans))

    async def _update_gauges(self) -> None:
        metrics.operations_unfinished.clear()
        metrics.oldest_pending.clear()
        for row in await self._store.count_unfinished():
            operation_type, status = row["operation_type"], row["status"]
            metrics.operations_unfinished.labels(operation_type, status).set(row["number"])
            if status == OperationStatus.PENDING:
                metrics.oldest_pending.labels(operation_type).set(float(row["oldest_s"]))


@asynccontextmanager
async def _background_task() -> AsyncIterator[Callable[[Callable[[], Awaitable[None]]], bool]]:
    """Provide a function that starts work in the background, one task at a time.

    The function returns False while the last task still runs, and raises the error of one that
    failed. The end of the block cancels a running task.
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
    # Taking a lock twice only counts up, so the query checks first whether this session holds it.
    cursor = await connection.execute(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        " AND ((classid::bigint << 32) | objid::bigint) = %(lock)s)"
        " OR pg_try_advisory_lock(%(lock)s)",
        {"lock": LEADER_LOCK},
    )
    row = await cursor.fetchone()
    return bool(row and row[0])


async def _leader_silence_s(connection: AsyncConnection) -> float:
    """Return the seconds since the leader's session last did anything; end one that is dead.

    A stopped process keeps its session, and so its lock.
    """
    cursor = await connection.execute(
        "SELECT pid, extract(epoch FROM now() - state_change)::float8 FROM pg_stat_activity"
        " JOIN pg_locks USING (pid) WHERE locktype = 'advisory' AND state = 'idle' AND granted"
        " AND datname = current_database() AND ((classid::bigint << 32) | objid::bigint) = %s",
        (LEADER_LOCK,),
    )
    pid, silent_s = await cursor.fetchone() or (0, 0.0)
    if silent_s > DEAD_LEADER_S:
        logger.warning("ending the session %d of a leader that does nothing", pid)
        await connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
    return silent_s or 0.0
