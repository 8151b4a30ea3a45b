"""Operations that were divided into parts: a sweep, and the backtests it consists of.

The whole is collected once all its parts have ended; its row says how many have. Locks are taken
on parts first, in the order of their numbers, and on the whole last, so that nobody waits in a
circle.
"""

from __future__ import annotations

from typing import Any

from procrastinate import App

from ktrdr.database.pool import Connection
from ktrdr.database.queries import query
from ktrdr.operations.model import Row
from ktrdr.operations.queue import wake
from ktrdr.schemas import OperationStatus
from ktrdr.work import Part

_ROOM = "ktrdr.operations"


async def part_started(connection: Connection, part: Row) -> None:
    """Lets the whole be running, within the transaction that claimed a part of it."""
    if part["parent_id"] is not None:
        await connection.execute(query(_ROOM, "parent_started"), part)


async def part_ended(connection: Connection, queue: App, part: Row) -> None:
    """Counts a part that has ended, within the same transaction; wakes a worker after the last."""
    parent_id = part["parent_id"]
    if parent_id is None or not OperationStatus(part["status"]).is_final:
        return
    await connection.execute(query(_ROOM, "lock"), {"operation_id": parent_id})
    cursor = await connection.execute(query(_ROOM, "part_ended"), {"parent_id": parent_id})
    whole = await cursor.fetchone()
    if whole is not None and whole["is_ready"]:
        await wake(connection, queue, [whole])


async def cancel_parts(connection: Connection, operation_id: str) -> list[Row]:
    """Cancels the parts that have not ended; gives them."""
    return await _rows(connection, "cancel_parts", operation_id)


async def resume_parts(connection: Connection, queue: App, operation_id: str) -> list[Row]:
    """Puts failed and cancelled parts back into the queue; gives them."""
    parts = await _rows(connection, "resume_parts", operation_id)
    await wake(connection, queue, parts)
    return parts


async def parts_of(connection: Connection, operation_id: str) -> list[Part]:
    """The parts of an operation as they ended, in their order."""
    return [_part(row) for row in await _rows(connection, "parts", operation_id)]


def _part(row: Row) -> Part:
    error: dict[str, Any] | None = row["error"]
    completed = row["status"] == OperationStatus.COMPLETED
    return Part(
        operation_id=row["operation_id"],
        parameters=row["parameters"],
        summary=row["result"]["summary"] if completed else None,
        error=None if completed else (error["message"] if error else f"it is {row['status']}"),
    )


async def _rows(connection: Connection, name: str, operation_id: str) -> list[Row]:
    cursor = await connection.execute(query(_ROOM, name), {"operation_id": operation_id})
    return list(await cursor.fetchall())
