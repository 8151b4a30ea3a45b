"""Parent and child operations: a sweep and its backtests.

A parent runs once all its children have ended; until then its row counts them. Locks are taken on
the children first, in the order of their numbers, and on the parent last, so that no deadlock
arises.
"""

from __future__ import annotations

from typing import Any

from procrastinate import App

from ktrdr.database.pool import Connection
from ktrdr.database.queries import Row
from ktrdr.operations.queries import QUERIES
from ktrdr.operations.queue import enqueue
from ktrdr.schemas import OperationStatus
from ktrdr.work import ChildResult


async def mark_parent_running(connection: Connection, child: Row) -> None:
    """Mark the parent as running, within the transaction that claimed the child."""
    if child["parent_id"] is not None:
        await QUERIES.execute(connection, "mark_parent_running", parent_id=child["parent_id"])


async def update_parent(connection: Connection, queue: App, child: Row) -> None:
    """Update the parent's progress within the transaction that ended the child.

    The end of the last child puts the parent into the queue.
    """
    parent_id = child["parent_id"]
    if parent_id is None or not OperationStatus(child["status"]).is_final:
        return
    await QUERIES.execute(connection, "lock_operation", operation_id=parent_id)
    parent = await QUERIES.fetch_one(connection, "update_parent_progress", parent_id=parent_id)
    if parent is not None and parent["is_ready"]:
        await enqueue(connection, queue, [parent])


async def list_child_results(connection: Connection, operation_id: str) -> list[ChildResult]:
    """Return the results of an operation's children, in the order of their numbers."""
    rows = await QUERIES.fetch_all(connection, "list_children", operation_id=operation_id)
    return [_to_child_result(row) for row in rows]


def _to_child_result(row: Row) -> ChildResult:
    error: dict[str, Any] | None = row["error"]
    is_completed = row["status"] == OperationStatus.COMPLETED
    reason = error["message"] if error else f"the operation was {row['status']}"
    return ChildResult(
        operation_id=row["operation_id"],
        parameters=row["parameters"],
        summary=row["result"]["summary"] if is_completed else None,
        error=None if is_completed else reason,
    )
