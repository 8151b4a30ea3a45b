"""Operations as rows, and the decisions about them that need no database."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from ktrdr.contracts import (
    BacktestParameters,
    Operation,
    OperationEvent,
    OperationFault,
    OperationParameters,
    OperationStatus,
    OperationType,
    TrainingParameters,
)
from ktrdr.errors import InvalidParameters, KtrdrError

Row = Mapping[str, Any]

PARAMETERS: Final[Mapping[OperationType, type[OperationParameters]]] = {
    OperationType.BACKTEST: BacktestParameters,
    OperationType.TRAINING: TrainingParameters,
}
# A worker that dies may be bad luck; one operation that outlives this many workers is the cause.
MAX_LOST_LEASES: Final = 5
# The same for the process that does the work, which takes no worker with it.
MAX_DEATHS: Final = 3


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write about an operation, until somebody else has claimed it.

    Attributes:
        operation_id: The operation.
        epoch: Grows with every claim; a write that names an old one touches nothing.
    """

    operation_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What a worker gets when it claims an operation."""

    lease: Lease
    operation_type: OperationType
    parameters: OperationParameters
    attempt: int
    traceparent: str | None
    queued_s: float


def new_operation_id(operation_type: OperationType, now: datetime) -> str:
    """A readable id such as ``op_backtest_20261123_164500_1a2b3c4d``."""
    return f"op_{operation_type}_{now:%Y%m%d_%H%M%S}_{secrets.token_hex(4)}"


def results_directory(operation_id: str) -> str:
    """Where an operation's files go, relative to the shared directory."""
    return f"results/{operation_id.removeprefix('op_')}"


def model_directory(operation_id: str, name: str) -> str:
    """Where a training's model goes, relative to the shared directory."""
    version = operation_id.split("_", 2)[2]
    return f"models/{name}_{version}"


def read_parameters(
    operation_type: OperationType, parameters: Mapping[str, Any]
) -> OperationParameters:
    """Checks parameters against their type and fills in the defaults.

    Raises:
        InvalidParameters: Names every parameter that does not fit, and why.
    """
    try:
        return PARAMETERS[operation_type].model_validate(parameters)
    except ValidationError as exc:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in e['loc']) or 'parameters'}:"
            f" {e['msg'].removeprefix('Value error, ')}"
            for e in exc.errors(include_url=False, include_input=False)
        )
        raise InvalidParameters(
            f"the parameters do not fit a {operation_type}: {faults}",
            hint=f"`ktrdr operations submit {operation_type} --help` lists them.",
        ) from exc


def to_operation(row: Row) -> Operation:
    """The contract's view of a row."""
    error = row["error"]
    return Operation(
        operation_id=row["operation_id"],
        operation_type=row["operation_type"],
        status=row["status"],
        parameters=row["parameters"],
        progress=row["progress"],
        progress_message=row["progress_message"],
        worker_id=row["worker_id"],
        attempt=row["attempt"],
        submitted_by=row["submitted_by"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        cancel_requested_at=row["cancel_requested_at"],
        error=OperationFault.model_validate(error) if error else None,
        trace_id=trace_id_of(row["traceparent"]),
    )


def to_event(row: Row) -> OperationEvent:
    """The contract's view of an event's row."""
    return OperationEvent.model_validate(dict(row))


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace id within a W3C ``traceparent`` (version-traceid-spanid-flags)."""
    return traceparent.split("-")[1] if traceparent else None


def fault_of(error: BaseException) -> OperationFault:
    """What a row says of an error: our own sentence, or a foreign error's type and text."""
    if isinstance(error, KtrdrError):
        return OperationFault(kind=error.kind, message=error.message, hint=error.hint)
    text = " ".join(str(error).split())[:500]
    return OperationFault(
        kind="internal",
        message=f"{type(error).__name__}: {text}" if text else type(error).__name__,
        hint="The operation's log has the traceback.",
    )


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of an operation whose lease ran out."""

    status: OperationStatus
    error: OperationFault | None


def settle_death(row: Row, fault: OperationFault) -> Settlement:
    """Decides about an operation whose process died without a word.

    Args:
        row: The operation.
        fault: How it died, which is the operation's error if this is not to be tried again.
    """
    if row["cancel_requested_at"] is not None:
        return Settlement(OperationStatus.CANCELLED, None)
    if row["lost_leases"] + 1 >= MAX_DEATHS:
        return Settlement(OperationStatus.FAILED, fault)
    return Settlement(OperationStatus.PENDING, None)


def settle_expired(row: Row) -> Settlement:
    """Decides about a running operation whose worker fell silent.

    It goes back to the queue, unless somebody wanted it cancelled, or it has outlived so many
    workers that it must be what kills them.
    """
    if row["cancel_requested_at"] is not None:
        return Settlement(OperationStatus.CANCELLED, None)
    if row["lost_leases"] + 1 >= MAX_LOST_LEASES:
        return Settlement(
            OperationStatus.FAILED,
            OperationFault(
                kind="lease-lost",
                message=f"{MAX_LOST_LEASES} workers fell silent while running it,"
                f" the last one {row['worker_id']}",
                hint="Look at that worker's log and memory; then `ktrdr operations resume`.",
            ),
        )
    return Settlement(OperationStatus.PENDING, None)
