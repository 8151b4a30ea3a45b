"""Operations as rows, and the decisions about them that need no database."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from ktrdr.errors import InvalidParameters, KtrdrError
from ktrdr.schemas import (
    BacktestParameters,
    DrainMode,
    Operation,
    OperationEvent,
    OperationFault,
    OperationParameters,
    OperationType,
    SweepParameters,
    TrainingParameters,
)

Row = Mapping[str, Any]

PARAMETERS: Final[Mapping[OperationType, type[OperationParameters]]] = {
    OperationType.BACKTEST: BacktestParameters,
    OperationType.TRAINING: TrainingParameters,
    OperationType.SWEEP: SweepParameters,
}


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


@dataclass(frozen=True, slots=True)
class Renewal:
    """What is wanted of whoever renews a lease.

    Attributes:
        cancel: Somebody wants the operation cancelled.
        drain: The worker is to make way, and how; None if it is not.
    """

    cancel: bool
    drain: DrainMode | None


def new_operation_id(operation_type: OperationType, now: datetime) -> str:
    """A readable id such as ``op_backtest_20261123_164500_1a2b3c4d``."""
    return f"op_{operation_type}_{now:%Y%m%d_%H%M%S}_{secrets.token_hex(4)}"


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
        parent_id=row["parent_id"],
        retry_at=row["not_before"],
        retry_reason=row["retry_reason"],
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
