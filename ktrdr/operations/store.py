"""Operations as clients see them: submit, list, cancel, resume."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final

from procrastinate import App

from ktrdr.access.audit import record_change
from ktrdr.database.pool import Connection, Pool, autocommit, transaction
from ktrdr.database.queries import Row
from ktrdr.errors import Conflict, NotFound, UsageError
from ktrdr.operations.children import update_parent
from ktrdr.operations.model import to_operation
from ktrdr.operations.queries import QUERIES, add_event
from ktrdr.operations.queue import enqueue, make_enqueuing_app
from ktrdr.operations.submission import (
    ExpandSweep,
    expand_nothing,
    insert_operations,
    prepare_operations,
)
from ktrdr.schemas import (
    OPERATION_ID_PATTERN,
    Operation,
    OperationEvent,
    OperationPage,
    OperationRequest,
    OperationResults,
    OperationStatus,
    OperationType,
)
from ktrdr.tokens import Identity

MAX_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class OperationFilter:
    """Filter of a listing; None matches every value.

    Attributes:
        include_children: True lists child operations as well.
    """

    status: OperationStatus | None = None
    operation_type: OperationType | None = None
    parent_id: str | None = None
    include_children: bool = True
    worker_id: str | None = None
    submitted_by: str | None = None


class OperationStore:
    """Operations of one database; safe to share between tasks.

    Args:
        pool: Connections to the database.
        queue: Queue that wakes workers.
        expand_sweep: Function that validates parameters and returns those of the children.
    """

    def __init__(
        self, pool: Pool, queue: App | None = None, expand_sweep: ExpandSweep = expand_nothing
    ) -> None:
        self._pool = pool
        self._queue = queue or make_enqueuing_app()
        self._expand_sweep = expand_sweep

    async def submit(
        self,
        requests: Sequence[OperationRequest],
        *,
        by: Identity,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
    ) -> list[tuple[Operation, bool]]:
        """Submit operations, all or none.

        Args:
            requests: Requests in their order.
            by: Caller that submits them.
            idempotency_key: Key of the submission. Several operations get it with a number each.
            traceparent: W3C trace context that all operations continue.

        Returns:
            The operations, each with True if it is new. A known key returns the earlier operation.

        Raises:
            InvalidParameters: The parameters do not fit the type.
            Conflict: The key was used for a different request.
        """
        arguments = (requests, idempotency_key, self._expand_sweep)
        # Many requests, and the shared directory, take a while. A thread keeps the event loop free.
        operations = await asyncio.to_thread(prepare_operations, *arguments)
        # A single statement inserts one operation, so it needs no transaction.
        begin = autocommit if len(operations) == 1 else transaction
        async with begin(self._pool) as connection:
            rows = await insert_operations(connection, operations, by=by, traceparent=traceparent)
        return [(to_operation(row), is_new) for row, is_new in rows]

    async def get(self, operation_id: str) -> Operation:
        """Return an operation.

        Raises:
            NotFound: There is no such operation.
        """
        return to_operation(await self._get_row(operation_id))

    async def list_page(
        self,
        operation_filter: OperationFilter | None = None,
        *,
        limit: int = 50,
        cursor: str | None = None,
    ) -> OperationPage:
        """Return the newest operations, or the page that begins at ``cursor``.

        Raises:
            UsageError: The cursor is invalid.
        """
        limit = max(1, min(limit, MAX_PAGE))
        before_at, before_id = _decode_cursor(cursor) if cursor else (None, None)
        async with autocommit(self._pool) as connection:
            rows = await QUERIES.fetch_all(
                connection,
                "list_operations",
                **asdict(operation_filter or OperationFilter()),
                # After a rollback the database may hold types of operations of a later release.
                known_types=[operation_type.value for operation_type in OperationType],
                before_at=before_at,
                before_id=before_id,
                limit=limit + 1,
            )
        return OperationPage(
            operations=[to_operation(row) for row in rows[:limit]],
            next_cursor=_encode_cursor(rows[limit - 1]) if len(rows) > limit else None,
        )

    async def cancel(self, operation_id: str, *, by: Identity) -> Operation:
        """Cancel a pending operation immediately, or ask the worker of a running one to stop.

        The children of a parent operation are cancelled too.

        Raises:
            NotFound: There is no such operation.
            Conflict: The operation has already ended.
        """
        async with transaction(self._pool) as connection:
            children = await QUERIES.fetch_all(
                connection, "cancel_children", operation_id=operation_id
            )
            row = await QUERIES.fetch_one(connection, "cancel_operation", operation_id=operation_id)
            if row is None:
                raise await _refusal(connection, operation_id, "pending and running", "cancelled")
            for changed in (*children, row):
                if changed["status"] == OperationStatus.CANCELLED:
                    await add_event(connection, changed, "finished", f"cancelled by {by.subject}")
            await update_parent(connection, self._queue, row)
            detail = {"parts": len(children)}
            await record_change(connection, by, "operation.cancel", operation_id, detail)
        return to_operation(row)

    async def resume(self, operation_id: str, *, by: Identity) -> Operation:
        """Put a failed or cancelled operation back into the queue, with its checkpoint.

        The children of a parent operation that did not complete are resumed too.

        Raises:
            NotFound: There is no such operation.
            Conflict: The operation is not failed or cancelled.
        """
        async with transaction(self._pool) as connection:
            children = await QUERIES.fetch_all(
                connection, "resume_children", operation_id=operation_id
            )
            row = await QUERIES.fetch_one(connection, "resume_operation", operation_id=operation_id)
            if row is None:
                raise await _refusal(connection, operation_id, "failed and cancelled", "resumed")
            for changed in (*children, row):
                await add_event(connection, changed, "requeued", f"resumed by {by.subject}")
            # A parent is queued again by the end of its last child.
            await enqueue(connection, self._queue, children or [row])
            detail = {"parts": len(children)}
            await record_change(connection, by, "operation.resume", operation_id, detail)
        return to_operation(row)

    async def list_events(self, operation_id: str, *, after: int = 0) -> list[OperationEvent]:
        """Return at most 500 events of an operation that follow the event ``after``."""
        async with autocommit(self._pool) as connection:
            rows = await QUERIES.fetch_all(
                connection, "list_events", operation_id=operation_id, after=after
            )
        return [OperationEvent(**row) for row in rows]

    async def get_results(self, operation_id: str) -> OperationResults:
        """Return the results of a completed operation.

        Raises:
            NotFound: There is no such operation.
            Conflict: The operation is not completed.
        """
        row = await self._get_row(operation_id)
        if row["result"] is None:
            error = f": {row['error']['message']}" if row["error"] else ""
            raise Conflict(
                f"operation {operation_id} has no results (status: {row['status']}{error})",
                hint=f"See `ktrdr operations show {operation_id}`."
                if OperationStatus(row["status"]).is_final
                else "Wait for it with `ktrdr operations watch`.",
            )
        return OperationResults(
            operation_id=operation_id, operation_type=row["operation_type"], **row["result"]
        )

    async def count_unfinished(self) -> Sequence[Row]:
        """Return rows of ``status, operation_type, number, oldest_s`` of unfinished operations."""
        async with autocommit(self._pool) as connection:
            return await QUERIES.fetch_all(connection, "count_unfinished")

    async def get_lease_epochs(
        self, operation_ids: Sequence[str]
    ) -> dict[str, tuple[OperationStatus, int]]:
        """Return status and lease epoch of the operations that exist."""
        async with autocommit(self._pool) as connection:
            rows = await QUERIES.fetch_all(
                connection, "get_lease_epochs", operation_ids=list(operation_ids)
            )
        return {
            row["operation_id"]: (OperationStatus(row["status"]), row["lease_epoch"])
            for row in rows
        }

    async def _get_row(self, operation_id: str) -> Row:
        async with autocommit(self._pool) as connection:
            row = await QUERIES.fetch_one(connection, "get_operation", operation_id=operation_id)
        if row is None:
            raise _not_found(operation_id)
        return row


async def _refusal(
    connection: Connection, operation_id: str, statuses: str, change: str
) -> Conflict | NotFound:
    row = await QUERIES.fetch_one(connection, "get_operation", operation_id=operation_id)
    if row is None:
        return _not_found(operation_id)
    return Conflict(
        f"operation {operation_id} already has the status {row['status']}",
        hint=f"Only {statuses} operations can be {change}.",
    )


def _not_found(operation_id: str) -> NotFound:
    return NotFound(
        f"there is no operation {operation_id!r}",
        hint="List the operations with `ktrdr operations list`.",
    )


def _encode_cursor(row: Row) -> str:
    text = f"{row['created_at'].isoformat()} {row['operation_id']}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def _decode_cursor(cursor: str) -> tuple[datetime, str]:
    invalid = UsageError(
        "the cursor is invalid", hint="Pass next_cursor of the previous page unchanged."
    )
    try:
        text = base64.urlsafe_b64decode(cursor.encode()).decode()
        created_at, operation_id = text.split(" ")
        moment = datetime.fromisoformat(created_at).astimezone(UTC)
    except (ValueError, OverflowError, binascii.Error) as exc:
        raise invalid from exc
    if not re.fullmatch(OPERATION_ID_PATTERN, operation_id):
        raise invalid
    return moment, operation_id
