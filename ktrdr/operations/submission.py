"""From requests to rows: what is checked, divided and written when operations are submitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg.types.json import Jsonb

from ktrdr.database.pool import Connection
from ktrdr.database.queries import query
from ktrdr.errors import Conflict
from ktrdr.operations.model import Row, new_operation_id, read_parameters
from ktrdr.operations.queue import RUN_TASK, queue_of
from ktrdr.schemas import OperationParameters, OperationRequest, OperationType
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

    def rows(self) -> list[Row]:
        """What ``submit`` takes: the operation, then its parts in the order of their numbers."""
        parts = enumerate(self.parts, start=1)
        return [_row(self), *(_row(part, self.operation_id, n) for n, part in parts)]


def _row(entry: Entry, parent_id: str | None = None, number: int | None = None) -> Row:
    worker_type = entry.kind.worker_type.value
    return {
        "operation_id": entry.operation_id,
        "operation_type": entry.kind.value,
        "worker_type": worker_type,
        "parameters": entry.parameters,
        "idempotency_key": entry.key,
        "parent_id": parent_id,
        "part_number": number,
        "queue": queue_of(worker_type),
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
    connection: Connection, entries: Sequence[Entry], *, by: Identity, traceparent: str | None
) -> list[tuple[Row, bool]]:
    """Writes operations and their queue entries; gives each one's row, and whether it is new.

    All is written by one statement. Several operations need a transaction around it: when a key of
    one of them turns out to be used for a different request, the others are to be undone.

    Raises:
        Conflict: A key was used for a different request.
    """
    values = {
        "rows": Jsonb([row for entry in entries for row in entry.rows()]),
        "submitted_by": by.subject,
        "role": by.role.value,
        "token_id": by.token_id,
        "traceparent": traceparent,
        "task": RUN_TASK,
    }
    cursor = await connection.execute(query(_ROOM, "submit"), values, prepare=True)
    rows = {row["operation_id"]: row for row in await cursor.fetchall()}
    # What was not written has a key that was there before, or that came in at the same time.
    earlier = await _earlier(connection, entries) if len(rows) < len(entries) else {}
    return [
        (rows[entry.operation_id], True)
        if entry.operation_id in rows
        else (_same(earlier[entry.key], entry), False)
        for entry in entries
    ]


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
