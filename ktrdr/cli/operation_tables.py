"""Tables of operations, and the exit code of operations that did not complete."""

from __future__ import annotations

from collections.abc import Sequence

from ktrdr.cli.render import (
    format_age,
    format_duration,
    format_figure,
    write_note,
    write_pairs,
    write_table,
)
from ktrdr.client.backend import open_backend
from ktrdr.errors import OperationFailed
from ktrdr.schemas import Operation, OperationStatus


def write_operations(operations: Sequence[Operation]) -> None:
    """Write a table with a row for each operation."""
    write_table(
        ("operation", "symbol", "status", ">done", "submitted", ">took"),
        [
            (
                operation.operation_id,
                str(operation.parameters.get("symbol", "")),
                operation.status.value,
                f"{operation.progress:.0%}",
                format_age(operation.created_at),
                format_runtime(operation),
            )
            for operation in operations
        ],
        empty="There are no operations; submit one with `ktrdr operations submit`.",
    )


def format_runtime(operation: Operation) -> str:
    """Return the time from the first start to the end, empty before the end."""
    if operation.started_at is None or operation.finished_at is None:
        return ""
    return format_duration(operation.finished_at - operation.started_at)


def write_results(operation_id: str) -> None:
    """Fetch and write the figures of a completed operation."""
    with open_backend() as api:
        results = api.get_results(operation_id)
    write_pairs([(name, format_figure(value)) for name, value in results.summary.items()])
    write_note(f"download the report with `ktrdr operations results {operation_id} --save .`")


def raise_if_unsuccessful(ended: Sequence[Operation]) -> None:
    """End the command with exit code 8 unless all operations completed.

    Raises:
        OperationFailed: The first operation that did not complete, with its reason.
    """
    unsuccessful = [
        operation for operation in ended if operation.status is not OperationStatus.COMPLETED
    ]
    if not unsuccessful:
        return
    first = unsuccessful[0]
    outcome = "was cancelled" if first.status is OperationStatus.CANCELLED else "failed"
    reason = f": {first.error.message}" if first.error else ""
    more = f" (and {len(unsuccessful) - 1} more)" if len(unsuccessful) > 1 else ""
    raise OperationFailed(
        f"{first.operation_id} {outcome}{reason}{more}",
        hint=(first.error.hint if first.error else None)
        or f"Continue from its checkpoint with `ktrdr operations resume {first.operation_id}`.",
    )
