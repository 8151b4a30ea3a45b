"""The registry of workers, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString
from urllib.parse import urlsplit

from psycopg.types.json import Jsonb

from ktrdr.database.pool import Pool, autocommit
from ktrdr.database.queries import query
from ktrdr.errors import NotFound
from ktrdr.schemas import Worker, WorkerHealth, WorkerRegistration, WorkerStatus, WorkerType

Row = Mapping[str, Any]


def node_of(endpoint_url: str) -> str:
    """The host that a worker's URL names, which is its node."""
    return urlsplit(endpoint_url).hostname or ""


def status_of(row: Row) -> WorkerStatus:
    """What the registry thinks of a worker: its record first, then what it is doing."""
    if row["unavailable"]:
        return WorkerStatus.TEMPORARILY_UNAVAILABLE
    return WorkerStatus.BUSY if row["current_operation_id"] else WorkerStatus.AVAILABLE


def to_worker(row: Row) -> Worker:
    """The contract's view of a row."""
    return Worker(
        worker_id=row["worker_id"],
        worker_type=row["worker_type"],
        endpoint_url=row["endpoint_url"],
        status=status_of(row),
        current_operation_id=row["current_operation_id"],
        capabilities=row["capabilities"],
        version=row["version"],
        node=row["node"],
        registered_at=row["registered_at"],
        last_healthy_at=row["last_healthy_at"],
        health_check_failures=row["health_check_failures"],
        drain=row.get("drain"),
        clock_skew_s=row["clock_skew_s"],
    )


class WorkerRegistry:
    """The registered workers; safe to share between tasks."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def register(self, registration: WorkerRegistration) -> Worker:
        """Adds a worker, or replaces what was known of it."""
        url = str(registration.endpoint_url).rstrip("/")
        row = await self._one(
            "register",
            {
                "worker_id": registration.worker_id,
                "worker_type": registration.worker_type.value,
                "endpoint_url": url,
                "node": node_of(url),
                "capabilities": Jsonb(registration.capabilities),
                "version": registration.version,
                "current_operation_id": registration.current_operation_id,
            },
        )
        assert row is not None  # noqa: S101  # an upsert always returns its row
        return to_worker(row)

    async def get(self, worker_id: str) -> Worker:
        """One worker.

        Raises:
            NotFound: It is not registered.
        """
        row = await self._one("get", {"worker_id": worker_id})
        if row is None:
            raise NotFound(
                f"there is no worker {worker_id!r}", hint="`ktrdr workers list` shows all."
            )
        return to_worker(row)

    async def workers(
        self, *, worker_type: WorkerType | None = None, status: WorkerStatus | None = None
    ) -> Sequence[Worker]:
        """The registered workers, by node."""
        async with autocommit(self._pool) as connection:
            cursor = await connection.execute(_sql("list"), {"worker_type": worker_type})
            found = [to_worker(row) for row in await cursor.fetchall()]
        return [worker for worker in found if status is None or worker.status is status]

    async def remove(self, worker_id: str) -> None:
        """Forgets a worker.

        Raises:
            NotFound: It is not registered.
        """
        if await self._one("remove", {"worker_id": worker_id}) is None:
            raise NotFound(f"there is no worker {worker_id!r}")

    async def mark_healthy(
        self, checked: Sequence[tuple[Worker, WorkerHealth, float | None]]
    ) -> None:
        """Notes good health checks: what they said, and how far each clock is ahead of ours."""
        rows = [
            {
                **_registration_of(worker),
                "version": health.version,
                "current_operation_id": health.current_operation_id,
                "clock_skew_s": skew_s,
            }
            for worker, health, skew_s in checked
        ]
        if rows:
            await self._run("healthy", {"checked": Jsonb(rows)})

    async def mark_unhealthy(self, checked: Sequence[tuple[Worker, bool]]) -> None:
        """Notes bad health checks, and whether the worker is unavailable by now."""
        rows = [
            {
                **_registration_of(worker),
                "failures": worker.health_check_failures + 1,
                "unavailable": unavailable,
            }
            for worker, unavailable in checked
        ]
        if rows:
            await self._run("unhealthy", {"checked": Jsonb(rows)})

    async def forget(self, worker: Worker, *, after_s: float) -> None:
        """Removes a worker that has not been well for ``after_s`` seconds."""
        await self._run(
            "forget",
            {**_registration_of(worker), "after_s": after_s},
        )

    async def _one(self, name: str, values: Mapping[str, Any]) -> Row | None:
        async with autocommit(self._pool) as connection:
            cursor = await connection.execute(_sql(name), values)
            return await cursor.fetchone()

    async def _run(self, name: str, values: Mapping[str, Any]) -> None:
        async with autocommit(self._pool) as connection:
            await connection.execute(_sql(name), values)


def _registration_of(worker: Worker) -> dict[str, str]:
    """What tells a registration from a later one of the same worker."""
    return {"worker_id": worker.worker_id, "endpoint_url": worker.endpoint_url}


def _sql(name: str) -> LiteralString:
    return query("ktrdr.fleet", name)
