"""What happened to an operation, as rows."""

from __future__ import annotations

from ktrdr.database.pool import Connection
from ktrdr.database.queries import query
from ktrdr.operations.model import Row


async def add_event(connection: Connection, row: Row, kind: str, message: str | None) -> None:
    """Notes what happened to an operation, within the caller's transaction."""
    await connection.execute(
        query("ktrdr.operations", "add_event"),
        {
            "operation_id": row["operation_id"],
            "kind": kind,
            "status": row["status"],
            "progress": row["progress"],
            "message": message,
        },
    )
