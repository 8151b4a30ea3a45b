"""Database of the operation state machine, and snapshots of its whole content."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ktrdr.database.pool import Pool, transaction
from ktrdr.operations.leases import LeaseStore
from ktrdr.operations.store import OperationStore

T = TypeVar("T")
Row = dict[str, Any]


@dataclass
class Snapshot:
    """Content of all tables, by operation.

    Attributes:
        queued: Operations with a queue entry.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    checkpoints: dict[str, Row] = field(default_factory=dict)
    events: dict[str, list[Row]] = field(default_factory=dict)
    queued: set[str] = field(default_factory=set)

    def of(self, operation_id: str) -> tuple[Row, Row | None, list[Row]]:
        """Return row, checkpoint and events of an operation."""
        return (
            self.rows[operation_id],
            self.checkpoints.get(operation_id),
            self.events[operation_id],
        )


class OperationDatabase:
    """Database on which the state machine runs synchronously."""

    def __init__(self, pool: Pool, runner: asyncio.Runner) -> None:
        self.pool = pool
        self.store = OperationStore(pool)
        self.leases = LeaseStore(pool)
        self._runner = runner

    def run(self, work: Awaitable[T]) -> T:
        async def wrapped() -> T:
            return await work

        return self._runner.run(wrapped())

    def run_concurrently(self, *work: Awaitable[T]) -> list[T]:
        async def gathered() -> list[T]:
            return await asyncio.gather(*work)

        return self._runner.run(gathered())

    def execute(self, statement: str, *values: object) -> None:
        self.run(self._fetch(statement, values))

    def clear(self) -> None:
        self.execute("DELETE FROM procrastinate_jobs")
        self.execute("DELETE FROM operations")

    def snapshot(self) -> Snapshot:
        return self.run(self._snapshot())

    async def _snapshot(self) -> Snapshot:
        snapshot = Snapshot()
        for row in await self._fetch("SELECT * FROM operations"):
            snapshot.rows[row["operation_id"]] = row
        for row in await self._fetch("SELECT * FROM operation_checkpoints"):
            snapshot.checkpoints[row["operation_id"]] = row
        for row in await self._fetch("SELECT * FROM operation_events ORDER BY event_id"):
            snapshot.events.setdefault(row["operation_id"], []).append(row)
        entries = await self._fetch(
            "SELECT args ->> 'operation_id' AS id FROM procrastinate_jobs WHERE status = 'todo'"
        )
        snapshot.queued = {row["id"] for row in entries}
        return snapshot

    async def _fetch(self, statement: str, values: tuple[object, ...] = ()) -> list[Row]:
        async with transaction(self.pool) as connection:
            cursor = await connection.execute(statement, values)
            return list(await cursor.fetchall()) if cursor.description else []
