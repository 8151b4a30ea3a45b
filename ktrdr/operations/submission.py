"""Submission of operations: validation, expansion into children, insertion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg.types.json import Jsonb

from ktrdr.database.pool import Connection
from ktrdr.database.queries import Row
from ktrdr.errors import Conflict
from ktrdr.operations.model import new_operation_id, parse_parameters
from ktrdr.operations.queries import QUERIES
from ktrdr.operations.queue import RUN_TASK, queue_name
from ktrdr.schemas import OperationParameters, OperationRequest, OperationType
from ktrdr.tokens import Identity

ExpandSweep = Callable[[OperationParameters], Sequence[OperationParameters]]
"""Function that checks parameters against the shared directory and returns the parameters of the
children, empty for an operation without children. It raises InvalidParameters."""


def expand_nothing(_parameters: OperationParameters) -> Sequence[OperationParameters]:
    """Return no children, and check nothing."""
    return ()


@dataclass(frozen=True, slots=True)
class NewOperation:
    """Operation that is to be inserted, with its children."""

    operation_id: str
    operation_type: OperationType
    parameters: dict[str, Any]
    idempotency_key: str | None
    children: tuple[NewOperation, ...] = ()

    def to_rows(self) -> list[Row]:
        """Return the row of the operation, then those of its children in their order."""
        children = enumerate(self.children, start=1)
        return [
            _to_row(self),
            *(_to_row(child, self.operation_id, number) for number, child in children),
        ]


def _to_row(
    operation: NewOperation, parent_id: str | None = None, number: int | None = None
) -> Row:
    worker_type = operation.operation_type.worker_type.value
    return {
        "operation_id": operation.operation_id,
        "operation_type": operation.operation_type.value,
        "worker_type": worker_type,
        "parameters": operation.parameters,
        "idempotency_key": operation.idempotency_key,
        "parent_id": parent_id,
        "part_number": number,
        "queue": queue_name(worker_type),
    }


def prepare_operations(
    requests: Sequence[OperationRequest], idempotency_key: str | None, expand_sweep: ExpandSweep
) -> Sequence[NewOperation]:
    """Validate requests and turn them into new operations.

    Args:
        requests: Requests in their order.
        idempotency_key: Key of the submission. Several requests get it with a number each.
        expand_sweep: Function that returns the children's parameters.

    Raises:
        InvalidParameters: The parameters of a request do not fit its type.
    """
    operations = []
    for number, request in enumerate(requests):
        key = idempotency_key
        if key is not None and len(requests) > 1:
            key = f"{key}:{number}"
        parameters = parse_parameters(request.operation_type, request.parameters)
        children = tuple(
            _new_operation(OperationType.BACKTEST, child) for child in expand_sweep(parameters)
        )
        operations.append(_new_operation(request.operation_type, parameters, key, children))
    return operations


def _new_operation(
    operation_type: OperationType,
    parameters: OperationParameters,
    key: str | None = None,
    children: tuple[NewOperation, ...] = (),
) -> NewOperation:
    operation_id = new_operation_id(operation_type, datetime.now(UTC))
    return NewOperation(
        operation_id, operation_type, parameters.model_dump(mode="json"), key, children
    )


async def insert_operations(
    connection: Connection,
    operations: Sequence[NewOperation],
    *,
    by: Identity,
    traceparent: str | None,
) -> list[tuple[Row, bool]]:
    """Insert operations and their queue entries.

    A single statement writes them. Several operations need a transaction around it: if one key
    turns out to be used for a different request, the other operations must be undone.

    Returns:
        The row of each operation, and True if it is new. For a known key, the row is the earlier
        operation's.

    Raises:
        Conflict: A key was used for a different request.
    """
    cursor = await QUERIES.execute(
        connection,
        "insert_operations",
        prepare=True,
        rows=Jsonb([row for operation in operations for row in operation.to_rows()]),
        submitted_by=by.subject,
        role=by.role.value,
        token_id=by.token_id,
        traceparent=traceparent,
        task=RUN_TASK,
    )
    inserted = {row["operation_id"]: row for row in await cursor.fetchall()}
    # An operation is not inserted if its key was there before, or came in simultaneously.
    earlier: dict[str | None, Row] = {}
    keys = [new.idempotency_key for new in operations if new.idempotency_key is not None]
    if keys and len(inserted) < len(operations):
        rows = await QUERIES.fetch_all(connection, "find_by_idempotency_keys", keys=keys)
        earlier = {row["idempotency_key"]: row for row in rows}
    return [
        (inserted[operation.operation_id], True)
        if operation.operation_id in inserted
        else (_require_same_request(earlier[operation.idempotency_key], operation), False)
        for operation in operations
    ]


def _require_same_request(row: Row, operation: NewOperation) -> Row:
    request = (operation.operation_type.value, operation.parameters)
    if (row["operation_type"], row["parameters"]) != request:
        raise Conflict(
            f"the idempotency key was already used for {row['operation_id']} with other parameters",
            hint="Use a new key for a new request.",
        )
    return row
