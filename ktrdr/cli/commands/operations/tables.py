"""Operations as people see them, and what their end means for an exit code."""

from __future__ import annotations

from collections.abc import Sequence

from ktrdr.cli.connection import backend
from ktrdr.cli.render import ago, duration, figure, say, write_pairs, write_table
from ktrdr.errors import OperationFailed
from ktrdr.schemas import Operation, OperationStatus


def write_operations(found: list[Operation]) -> None:
    """A line an operation."""
    write_table(
        ("operation", "symbol", "status", ">done", "submitted", ">took"),
        [
            (
                each.operation_id,
                str(each.parameters.get("symbol", "")),
                each.status.value,
                f"{each.progress:.0%}",
                ago(each.created_at),
                took(each),
            )
            for each in found
        ],
        empty="There are no operations; submit one with `ktrdr operations submit`.",
    )


def took(operation: Operation) -> str:
    """How long it ran, from its first start to its end; empty while it has not ended."""
    if operation.started_at is None or operation.finished_at is None:
        return ""
    return duration(operation.finished_at - operation.started_at)


def write_results(operation_id: str) -> None:
    """The figures of a completed operation, and how to get at its files."""
    with backend() as api:
        found = api.results(operation_id)
    write_pairs([(name, figure(value)) for name, value in found.summary.items()])
    say(f"fetch the report with `ktrdr operations results {operation_id} --save .`")


def raise_if_unsuccessful(ended: Sequence[Operation]) -> None:
    """Ends the command with exit code 8 unless all operations completed.

    Raises:
        OperationFailed: Names the first that did not, and its reason.
    """
    bad = [each for each in ended if each.status is not OperationStatus.COMPLETED]
    if not bad:
        return
    first = bad[0]
    reason = f": {first.error.message}" if first.error else ""
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    raise OperationFailed(
        f"{first.operation_id} is {first.status.value}{reason}{more}",
        hint=(first.error.hint if first.error else None)
        or f"`ktrdr operations resume {first.operation_id}` goes on from its checkpoint.",
    )
