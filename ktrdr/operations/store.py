"""Operations as clients see them: submit, look, cancel, resume."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from procrastinate import App

from ktrdr.access.audit import record
from ktrdr.database.pool import Connection, Pool, autocommit, transaction
from ktrdr.database.queries import query
from ktrdr.errors import Conflict, NotFound, UsageError
from ktrdr.operations.events import add_event
from ktrdr.operations.model import Row, to_event, to_operation
from ktrdr.operations.parts import cancel_parts, part_ended, resume_parts
from ktrdr.operations.queue import submitting_app, wake
from ktrdr.operations.submission import Divide, prepare, undivided, write
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

MAX_PAGE = 500
# A request is looked at in some 0.1 ms, a sweep of a thousand parts in 50.
FEW = 10


@dataclass(frozen=True, slots=True)
class Filter:
    """Which operations are wanted; None means any.

    Attributes:
        with_parts: Whether operations that are parts of another are listed.
    """

    status: OperationStatus | None = None
    operation_type: OperationType | None = None
    parent_id: str | None = None
    with_parts: bool = True
    worker_id: str | None = None
    submitted_by: str | None = None


class OperationStore:
    """The operations of one database; safe to share between tasks.

    Args:
        pool: Its connections.
        queue: What workers are woken through.
        divide: Looks at parameters before they are accepted, and divides what has parts.
    """

    def __init__(self, pool: Pool, queue: App | None = None, divide: Divide = undivided) -> None:
        self._pool = pool
        self._queue = queue or submitting_app()
        self._divide = divide

    async def submit(
        self,
        requests: Sequence[OperationRequest],
        *,
        by: Identity,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
    ) -> list[tuple[Operation, bool]]:
        """Writes operations and their queue entries, all or none.

        Args:
            requests: What is to be done; the order is kept.
            by: Who wants it.
            idempotency_key: Names the request. Where there are several, each has it with a number.
            traceparent: The trace that all of them continue.

        Returns:
            The operations, and whether each is new: with a known key the earlier one comes back.

        Raises:
            InvalidParameters: They do not fit the type.
            Conflict: The key was used for a different request.
        """
        # Many take a while to look at; meanwhile others are served.
        if len(requests) > FEW:
            entries = await asyncio.to_thread(prepare, requests, idempotency_key, self._divide)
        else:
            entries = prepare(requests, idempotency_key, self._divide)
        # One is written by a single statement, or not at all.
        opened = autocommit if len(entries) == 1 else transaction
        async with opened(self._pool) as connection:
            written = await write(connection, entries, by=by, traceparent=traceparent)
        return [(to_operation(row), new) for row, new in written]

    async def get(self, operation_id: str) -> Operation:
        """One operation.

        Raises:
            NotFound: There is none of that id.
        """
        return to_operation(await self._row(operation_id))

    async def page(
        self, wanted: Filter | None = None, *, limit: int = 50, cursor: str | None = None
    ) -> OperationPage:
        """The newest operations, or those after ``cursor``.

        Raises:
            UsageError: The cursor is not one of ours.
        """
        limit = max(1, min(limit, MAX_PAGE))
        before_at, before_id = _read_cursor(cursor) if cursor else (None, None)
        values = {
            **asdict(wanted or Filter()),
            # After a rollback there may be operations of types that a later release has brought.
            "known_types": [kind.value for kind in OperationType],
            "before_at": before_at,
            "before_id": before_id,
            "limit": limit + 1,
        }
        async with autocommit(self._pool) as connection:
            rows = await _all(connection, "list", values)
        more = len(rows) > limit
        return OperationPage(
            operations=[to_operation(row) for row in rows[:limit]],
            next_cursor=_write_cursor(rows[limit - 1]) if more else None,
        )

    async def cancel(self, operation_id: str, *, by: Identity) -> Operation:
        """Cancels at once what nobody works on, and asks the worker of what is running.

        Raises:
            NotFound: There is none of that id.
            Conflict: It is finished already.
        """
        note = f"cancelled by {by.subject}"
        async with transaction(self._pool) as connection:
            parts = await cancel_parts(connection, operation_id)
            row = await _one(connection, "cancel", {"operation_id": operation_id})
            if row is None:
                raise await self._refusal(
                    connection, operation_id, "pending and running", "cancelled"
                )
            for each in (*parts, row):
                if each["status"] == OperationStatus.CANCELLED:
                    await add_event(connection, each, "finished", note)
            await part_ended(connection, self._queue, row)
            await record(connection, by, "operation.cancel", operation_id, {"parts": len(parts)})
        return to_operation(row)

    async def resume(self, operation_id: str, *, by: Identity) -> Operation:
        """Puts a failed or cancelled operation back into the queue; it goes on from its checkpoint.

        Of one that was divided, the parts that did not complete are put back too.

        Raises:
            NotFound: There is none of that id.
            Conflict: It is not failed or cancelled.
        """
        async with transaction(self._pool) as connection:
            parts = await resume_parts(connection, self._queue, operation_id)
            row = await _one(connection, "resume", {"operation_id": operation_id})
            if row is None:
                raise await self._refusal(
                    connection, operation_id, "failed and cancelled", "resumed"
                )
            for each in (*parts, row):
                await add_event(connection, each, "requeued", f"resumed by {by.subject}")
            if not parts:
                await wake(connection, self._queue, [row])
            await record(connection, by, "operation.resume", operation_id, {"parts": len(parts)})
        return to_operation(row)

    async def events(self, operation_id: str, *, after: int = 0) -> list[OperationEvent]:
        """What happened to an operation since the event ``after``, at most 500 events."""
        async with autocommit(self._pool) as connection:
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
        async with autocommit(self._pool) as connection:
            return await _all(connection, "counts", {})

    async def epochs(self, operation_ids: Sequence[str]) -> dict[str, tuple[OperationStatus, int]]:
        """Status and lease epoch of those of the operations that there are."""
        async with autocommit(self._pool) as connection:
            rows = await _all(connection, "epochs", {"operation_ids": list(operation_ids)})
        return {
            row["operation_id"]: (OperationStatus(row["status"]), row["lease_epoch"])
            for row in rows
        }

    async def _row(self, operation_id: str) -> Row:
        async with autocommit(self._pool) as connection:
            row = await _one(connection, "get", {"operation_id": operation_id})
        if row is None:
            raise _unknown(operation_id)
        return row

    async def _refusal(
        self, connection: Connection, operation_id: str, can: str, what: str
    ) -> Conflict | NotFound:
        row = await _one(connection, "get", {"operation_id": operation_id})
        if row is None:
            return _unknown(operation_id)
        return Conflict(
            f"operation {operation_id} is {row['status']} already",
            hint=f"Only {can} operations can be {what}.",
        )


async def _one(connection: Connection, name: str, values: dict[str, Any]) -> Row | None:
    cursor = await connection.execute(query("ktrdr.operations", name), values)
    return await cursor.fetchone()


async def _all(connection: Connection, name: str, values: dict[str, Any]) -> list[Row]:
    cursor = await connection.execute(query("ktrdr.operations", name), values)
    return list(await cursor.fetchall())


def _unknown(operation_id: str) -> NotFound:
    return NotFound(
        f"there is no operation {operation_id!r}",
        hint="`ktrdr operations list` shows what there is.",
    )


def _write_cursor(row: Row) -> str:
    text = f"{row['created_at'].isoformat()} {row['operation_id']}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        text = base64.urlsafe_b64decode(cursor.encode()).decode()
        at, operation_id = text.split(" ")
        moment = datetime.fromisoformat(at).astimezone(UTC)
    except (ValueError, OverflowError, binascii.Error) as exc:
        raise _not_ours() from exc
    if not re.fullmatch(OPERATION_ID_PATTERN, operation_id):
        raise _not_ours()
    return moment, operation_id


def _not_ours() -> UsageError:
    return UsageError(
        "the cursor is not one of this backend's",
        hint="Pass next_cursor of the page before, unchanged.",
    )
