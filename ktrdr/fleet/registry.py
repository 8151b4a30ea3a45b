"""Registry of workers in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from psycopg.types.json import Jsonb

from ktrdr.database.pool import Pool, autocommit
from ktrdr.database.queries import QuerySet, Row
from ktrdr.errors import NotFound
from ktrdr.schemas import Worker, WorkerHealth, WorkerRegistration, WorkerStatus, WorkerType

QUERIES: Final = QuerySet("ktrdr.fleet")
MAX_PROBLEM: Final = 500


def node_from_url(endpoint_url: str) -> str:
    """Return the host of a worker's URL, which is its node."""
    return urlsplit(endpoint_url).hostname or ""


def to_worker(row: Row) -> Worker:
    """Convert a row into the schema that the API returns."""
    status = WorkerStatus.BUSY if row["current_operation_id"] else WorkerStatus.AVAILABLE
    if row["unavailable"] or row["problem"]:
        status = WorkerStatus.TEMPORARILY_UNAVAILABLE
    return Worker.model_validate({**row, "status": status})


class WorkerRegistry:
    """Registered workers; safe to share between tasks."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def register(self, registration: WorkerRegistration) -> Worker:
        """Register a worker, or replace its earlier registration."""
        url = str(registration.endpoint_url).rstrip("/")
        row = await self._fetch_one(
            "register_worker",
            worker_id=registration.worker_id,
            worker_type=registration.worker_type.value,
            endpoint_url=url,
            node=node_from_url(url),
            capabilities=Jsonb(registration.capabilities),
            version=registration.version,
            current_operation_id=registration.current_operation_id,
        )
        assert row is not None  # noqa: S101  # an upsert always returns its row
        return to_worker(row)

    async def get(self, worker_id: str) -> Worker:
        """Return a worker.

        Raises:
            NotFound: The worker is not registered.
        """
        row = await self._fetch_one("get_worker", worker_id=worker_id)
        if row is None:
            raise _not_found(worker_id)
        return to_worker(row)

    async def list_workers(
        self, *, worker_type: WorkerType | None = None, status: WorkerStatus | None = None
    ) -> Sequence[Worker]:
        """Return the registered workers, sorted by node."""
        async with autocommit(self._pool) as connection:
            rows = await QUERIES.fetch_all(connection, "list_workers", worker_type=worker_type)
        workers = [to_worker(row) for row in rows]
        return [worker for worker in workers if status is None or worker.status is status]

    async def remove(self, worker_id: str) -> None:
        """Remove a worker.

        Raises:
            NotFound: The worker is not registered.
        """
        if await self._fetch_one("remove_worker", worker_id=worker_id) is None:
            raise _not_found(worker_id)

    async def mark_healthy(
        self, checked: Sequence[tuple[Worker, WorkerHealth, float | None]]
    ) -> None:
        """Record passed health checks with the seconds by which each worker's clock is ahead."""
        rows = [
            {
                **_registration_key(worker),
                "version": health.version,
                "current_operation_id": health.current_operation_id,
                "clock_skew_s": skew_s,
                "problem": health.problem.message[:MAX_PROBLEM] if health.problem else None,
            }
            for worker, health, skew_s in checked
        ]
        if rows:
            await self._execute("mark_healthy", checked=Jsonb(rows))

    async def mark_unhealthy(self, checked: Sequence[tuple[Worker, bool]]) -> None:
        """Record failed health checks, with True for each worker that is unavailable now."""
        rows = [
            {
                **_registration_key(worker),
                "failures": worker.health_check_failures + 1,
                "unavailable": unavailable,
            }
            for worker, unavailable in checked
        ]
        if rows:
            await self._execute("mark_unhealthy", checked=Jsonb(rows))

    async def remove_unhealthy(self, worker: Worker, *, after_s: float) -> None:
        """Remove a worker without a passed health check for ``after_s`` seconds."""
        await self._execute("remove_unhealthy_worker", **_registration_key(worker), after_s=after_s)

    async def _fetch_one(self, name: str, **values: Any) -> Row | None:
        async with autocommit(self._pool) as connection:
            return await QUERIES.fetch_one(connection, name, **values)

    async def _execute(self, name: str, **values: Any) -> None:
        async with autocommit(self._pool) as connection:
            await QUERIES.execute(connection, name, **values)


def _registration_key(worker: Worker) -> dict[str, str]:
    # A worker that registers elsewhere keeps its id but changes its URL.
    return {"worker_id": worker.worker_id, "endpoint_url": worker.endpoint_url}


def _not_found(worker_id: str) -> NotFound:
    return NotFound(
        f"there is no worker {worker_id!r}", hint="List the workers with `ktrdr workers list`."
    )
