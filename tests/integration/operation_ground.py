"""The database that random lives of operations are led in, and all that it says of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ktrdr.database.pool import Pool, transaction
from ktrdr.operations.leases import LeaseBook
from ktrdr.operations.store import OperationStore

T = TypeVar("T")
Row = dict[str, Any]


@dataclass
class Snapshot:
    """Everything that the database says, by operation."""

    rows: dict[str, Row] = field(default_factory=dict)
    checkpoints: dict[str, Row] = field(default_factory=dict)
    events: dict[str, list[Row]] = field(default_factory=dict)
    queued: set[str] = field(default_factory=set)

    def of(self, operation_id: str) -> tuple[Row, Row | None, list[Row]]:
        """What it says of one."""
        rows, points = self.rows[operation_id], self.checkpoints.get(operation_id)
        return rows, points, self.events[operation_id]


class Ground:
    """The database that all lives are led in, one after another."""

    def __init__(self, pool: Pool, runner: asyncio.Runner) -> None:
        self.pool = pool
        self.store = OperationStore(pool)
        self.leases = LeaseBook(pool)
        self._runner = runner

    def run(self, work: Awaitable[T]) -> T:
        async def wrapped() -> T:
            return await work

        return self._runner.run(wrapped())

    def together(self, *work: Awaitable[T]) -> list[T]:
        async def all_of_it() -> list[T]:
            return await asyncio.gather(*work)

        return self._runner.run(all_of_it())

    def execute(self, statement: str, *values: object) -> None:
        self.run(self._rows(statement, values))

    def clear(self) -> None:
        self.execute("DELETE FROM procrastinate_jobs")
        self.execute("DELETE FROM operations")

    def snapshot(self) -> Snapshot:
        return self.run(self._snapshot())

    async def _snapshot(self) -> Snapshot:
        found = Snapshot()
        for row in await self._rows("SELECT * FROM operations"):
            found.rows[row["operation_id"]] = row
        for row in await self._rows("SELECT * FROM operation_checkpoints"):
            found.checkpoints[row["operation_id"]] = row
        for row in await self._rows("SELECT * FROM operation_events ORDER BY event_id"):
            found.events.setdefault(row["operation_id"], []).append(row)
        entries = await self._rows(
            "SELECT args ->> 'operation_id' AS id FROM procrastinate_jobs WHERE status = 'todo'"
        )
        found.queued = {row["id"] for row in entries}
        return found

    async def _rows(self, statement: str, values: tuple[object, ...] = ()) -> list[Row]:
        async with transaction(self.pool) as connection:
            cursor = await connection.execute(statement, values)
            return list(await cursor.fetchall()) if cursor.description else []
