"""Operations as clients see them: submit, look, cancel, resume."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from procrastinate import App
from psycopg.types.json import Jsonb

from ktrdr.contracts import (
    Operation,
    OperationEvent,
    OperationPage,
    OperationRequest,
    OperationResults,
    OperationStatus,
    OperationType,
)
from ktrdr.database.pool import Connection, Pool, transaction
from ktrdr.database.queries import query
from ktrdr.errors import Conflict, NotFound, UsageError
from ktrdr.operations.model import Row, new_operation_id, read_parameters, to_event, to_operation
from ktrdr.operations.queue import submitting_app, wake

MAX_PAGE = 500


class OperationStore:
    """The operations of one database; safe to share between tasks."""

    def __init__(self, pool: Pool, queue: App | None = None) -> None:
        self._pool = pool
        self._queue = queue or submitting_app()

    async def submit(
        self,
        request: OperationRequest,
        *,
        submitted_by: str,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
    ) -> tuple[Operation, bool]:
        """Writes an operation and its queue entry, both or neither.

        Returns:
            The operation, and whether it is new: with a known ``idempotency_key`` the earlier one
            comes back.

        Raises:
            InvalidParameters: They do not fit the type.
            Conflict: The key was used for a different request.
        """
        parameters = read_parameters(request.operation_type, request.parameters)
        values = {
            "operation_id": new_operation_id(request.operation_type, datetime.now(UTC)),
            "operation_type": request.operation_type.value,
            "worker_type": request.operation_type.worker_type.value,
            "parameters": Jsonb(parameters.model_dump(mode="json")),
            "idempotency_key": idempotency_key,
            "submitted_by": submitted_by,
            "traceparent": traceparent,
        }
        async with transaction(self._pool) as connection:
            row = await _one(connection, "insert", values)
            if row is None:
                return await self._earlier(connection, values, parameters.model_dump(mode="json"))
            await add_event(connection, row, "submitted", f"by {submitted_by}")
            await wake(connection, self._queue, row["operation_id"], row["worker_type"])
        return to_operation(row), True

    async def get(self, operation_id: str) -> Operation:
        """One operation.

        Raises:
            NotFound: There is none of that id.
        """
        return to_operation(await self._row(operation_id))

    async def page(
        self,
        *,
        status: OperationStatus | None = None,
        operation_type: OperationType | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> OperationPage:
        """The newest operations, or those after ``cursor``.

        Raises:
            UsageError: The cursor is not one of ours.
        """
        limit = max(1, min(limit, MAX_PAGE))
        before_at, before_id = _read_cursor(cursor) if cursor else (None, None)
        async with transaction(self._pool) as connection:
            rows = await _all(
                connection,
                "list",
                {
                    "status": status,
                    "operation_type": operation_type,
                    "before_at": before_at,
                    "before_id": before_id,
                    "limit": limit + 1,
                },
            )
        more = len(rows) > limit
        return OperationPage(
            operations=[to_operation(row) for row in rows[:limit]],
            next_cursor=_write_cursor(rows[limit - 1]) if more else None,
        )

    async def cancel(self, operation_id: str, *, by: str) -> Operation:
        """Cancels at once what is pending, and asks the worker of what is running.

        Raises:
            NotFound: There is none of that id.
            Conflict: It is finished already.
        """
        async with transaction(self._pool) as connection:
            row = await _one(connection, "cancel", {"operation_id": operation_id})
            if row is not None and row["status"] == OperationStatus.CANCELLED:
                await add_event(connection, row, "finished", f"cancelled by {by}")
        if row is None:
            operation = await self.get(operation_id)
            raise Conflict(
                f"operation {operation_id} is {operation.status} already",
                hint="Only pending and running operations can be cancelled.",
            )
        return to_operation(row)

    async def resume(self, operation_id: str, *, by: str) -> Operation:
        """Puts a failed or cancelled operation back into the queue; it goes on from its checkpoint.

        Raises:
            NotFound: There is none of that id.
            Conflict: It is not failed or cancelled.
        """
        async with transaction(self._pool) as connection:
            row = await _one(connection, "resume", {"operation_id": operation_id})
            if row is not None:
                await add_event(connection, row, "requeued", f"resumed by {by}")
                await wake(connection, self._queue, operation_id, row["worker_type"])
        if row is None:
            operation = await self.get(operation_id)
            raise Conflict(
                f"operation {operation_id} is {operation.status}",
                hint="Only failed and cancelled operations can be resumed.",
            )
        return to_operation(row)

    async def events(self, operation_id: str, *, after: int = 0) -> list[OperationEvent]:
        """What happened to an operation since the event ``after``, at most 500 events."""
        async with transaction(self._pool) as connection:
            rows = await _all(connection, "events", {"operation_id": operation_id, "after": after})
        return [to_event(row) for row in rows]

    async def results(self, operation_id: str) -> OperationResults:
        """What a completed operation found.

        Raises:
            NotFound: There is none of that id.
            Conflict: It is not completed.
        """
        row = await self._row(operation_id)
        if row["result"] is None:
            hint = (row["error"] or {}).get("message") or "Wait with `ktrdr operations watch`."
            raise Conflict(
                f"operation {operation_id} is {row['status']} and has no results", hint=hint
            )
        return OperationResults(
            operation_id=operation_id, operation_type=row["operation_type"], **row["result"]
        )

    async def backlog(self) -> Sequence[Row]:
        """Rows of ``status, operation_type, number, oldest_s`` of what is unfinished."""
        async with transaction(self._pool) as connection:
            return await _all(connection, "counts", {})

    async def epochs(self, operation_ids: Sequence[str]) -> dict[str, tuple[OperationStatus, int]]:
        """Status and lease epoch of those of the operations that there are."""
        async with transaction(self._pool) as connection:
            rows = await _all(connection, "epochs", {"operation_ids": list(operation_ids)})
        return {
            row["operation_id"]: (OperationStatus(row["status"]), row["lease_epoch"])
            for row in rows
        }

    async def _row(self, operation_id: str) -> Row:
        async with transaction(self._pool) as connection:
            row = await _one(connection, "get", {"operation_id": operation_id})
        if row is None:
            raise NotFound(
                f"there is no operation {operation_id!r}",
                hint="`ktrdr operations list` shows what there is.",
            )
        return row

    async def _earlier(
        self, connection: Connection, values: dict[str, Any], parameters: dict[str, Any]
    ) -> tuple[Operation, bool]:
        row = await _one(connection, "by_idempotency_key", values)
        assert row is not None  # noqa: S101  # rows are never deleted, and the insert just met it
        if (row["operation_type"], row["parameters"]) != (values["operation_type"], parameters):
            raise Conflict(
                f"the idempotency key was used for {row['operation_id']} with other parameters",
                hint="Use a new key for a new request.",
            )
        return to_operation(row), False


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


async def _one(connection: Connection, name: str, values: dict[str, Any]) -> Row | None:
    cursor = await connection.execute(query("ktrdr.operations", name), values)
    return await cursor.fetchone()


async def _all(connection: Connection, name: str, values: dict[str, Any]) -> list[Row]:
    cursor = await connection.execute(query("ktrdr.operations", name), values)
    return list(await cursor.fetchall())


def _write_cursor(row: Row) -> str:
    text = f"{row['created_at'].isoformat()} {row['operation_id']}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        at, _, operation_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition(" ")
        return datetime.fromisoformat(at), operation_id
    except (ValueError, binascii.Error) as exc:
        raise UsageError(
            "the cursor is not one of this backend's",
            hint="Pass next_cursor of the page before, unchanged.",
        ) from exc
