"""SQL queries of operations, and the recording of events."""

from __future__ import annotations

from typing import Final

from ktrdr.database.pool import Connection
from ktrdr.database.queries import QuerySet, Row

QUERIES: Final = QuerySet("ktrdr.operations")


async def add_event(connection: Connection, row: Row, kind: str, message: str | None) -> None:
    """Record an event of an operation within the caller's transaction.

    Args:
        connection: Connection with the open transaction.
        row: Operation as it is after the change.
        kind: Kind of event, such as ``started``.
        message: Reason or other detail in words.
    """
    await QUERIES.execute(
        connection,
        "add_event",
        operation_id=row["operation_id"],
        kind=kind,
        status=row["status"],
        progress=row["progress"],
        message=message,
    )
