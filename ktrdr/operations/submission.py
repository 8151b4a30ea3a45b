"""From requests to rows: what is checked, divided and written when operations are submitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from procrastinate import App
from psycopg.types.json import Jsonb

from ktrdr.access.audit import record
from ktrdr.contracts import OperationParameters, OperationRequest, OperationType
from ktrdr.database.pool import Connection
from ktrdr.database.queries import query
from ktrdr.errors import Conflict
from ktrdr.operations.model import Row, new_operation_id, read_parameters
from ktrdr.operations.queue import wake
from ktrdr.tokens import Identity

_ROOM = "ktrdr.operations"

Divide = Callable[[OperationParameters], Sequence[OperationParameters]]
"""Checks parameters against what is in the shared directory, and gives the parts of an operation
that is divided; raises InvalidParameters."""


def undivided(_parameters: OperationParameters) -> Sequence[OperationParameters]:
    """Leaves everything whole, and checks nothing."""
    return ()


@dataclass(frozen=True, slots=True)
class Entry:
    """An operation that is to be written, and the parts it was divided into.

    Attributes:
        key: The idempotency key, or None.
    """

    operation_id: str
    kind: OperationType
    parameters: dict[str, Any]
    key: str | None
    parts: tuple[Entry, ...] = ()

    def row(self, parent: Entry | None = None, number: int | None = None) -> Row:
        """What ``insert`` takes."""
        return {
            "operation_id": self.operation_id,
            "operation_type": self.kind.value,
            "worker_type": self.kind.worker_type.value,
            "parameters": self.parameters,
            "idempotency_key": self.key,
            "parent_id": parent.operation_id if parent else None,
            "part_number": number,
        }


def prepare(
    requests: Sequence[OperationRequest], key: str | None, divide: Divide
) -> Sequence[Entry]:
    """Checks requests and makes entries of them.

    Raises:
        InvalidParameters: One does not fit its type; which one is said where there are several.
    """
    entries = []
    for number, request in enumerate(requests):
        own_key = key if key is None or len(requests) == 1 else f"{key}:{number}"
        parameters = read_parameters(request.operation_type, request.parameters)
        parts = divide(parameters)
        entries.append(
            _entry(
                request.operation_type,
                parameters,
                own_key,
                tuple(_entry(OperationType.BACKTEST, part, None) for part in parts),
            )
        )
    return entries


async def write(
    connection: Connection,
    queue: App,
    entries: Sequence[Entry],
    *,
    by: Identity,
    traceparent: str | None,
) -> list[tuple[Row, bool]]:
    """Writes operations and their queue entries; gives each one's row, and whether it is new.

    Raises:
        Conflict: A key was used for a different request.
    """
    rows = await _insert(connection, [entry.row() for entry in entries], by, traceparent)
    # What was not written has a key that was there before, or that came in at the same time.
    earlier = await _earlier(connection, entries) if len(rows) < len(entries) else {}
    wholes = [entry for entry in entries if entry.operation_id in rows and entry.parts]
    parts = await _insert(
        connection,
        [part.row(whole, n) for whole in wholes for n, part in enumerate(whole.parts, start=1)],
        by,
        traceparent,
    )
    if rows:
        await _record(connection, by, [*rows, *parts])
        divided = {whole.operation_id for whole in wholes}
        undivided_rows = [row for name, row in rows.items() if name not in divided]
        await wake(connection, queue, [*undivided_rows, *parts.values()])
    return [
        (rows[entry.operation_id], True)
        if entry.operation_id in rows
        else (_same(earlier[entry.key], entry), False)
        for entry in entries
    ]


async def _record(connection: Connection, by: Identity, operation_ids: Sequence[str]) -> None:
    first, more = operation_ids[0], len(operation_ids) - 1
    await record(connection, by, "operation.submit", first, {"and_more": more} if more else None)


async def _insert(
    connection: Connection, rows: Sequence[Row], by: Identity, traceparent: str | None
) -> dict[str, Row]:
    if not rows:
        return {}
    values = {"rows": Jsonb(rows), "submitted_by": by.subject, "traceparent": traceparent}
    cursor = await connection.execute(query(_ROOM, "insert"), values)
    return {row["operation_id"]: row for row in await cursor.fetchall()}


async def _earlier(connection: Connection, entries: Sequence[Entry]) -> dict[str | None, Row]:
    keys = [entry.key for entry in entries if entry.key is not None]
    if not keys:
        return {}
    cursor = await connection.execute(query(_ROOM, "by_idempotency_keys"), {"keys": keys})
    return {row["idempotency_key"]: row for row in await cursor.fetchall()}


def _entry(
    kind: OperationType,
    parameters: OperationParameters,
    key: str | None,
    parts: tuple[Entry, ...] = (),
) -> Entry:
    name = new_operation_id(kind, datetime.now(UTC))
    return Entry(name, kind, parameters.model_dump(mode="json"), key, parts)


def _same(row: Row, entry: Entry) -> Row:
    if (row["operation_type"], row["parameters"]) != (entry.kind.value, entry.parameters):
        raise Conflict(
            f"the idempotency key was used for {row['operation_id']} with other parameters",
            hint="Use a new key for a new request.",
        )
    return row
