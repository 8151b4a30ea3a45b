"""Leases and claims, and the conversion between rows and schemas."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ktrdr.database.queries import Row
from ktrdr.errors import InvalidParameters, KtrdrError, did_you_mean
from ktrdr.schemas import (
    BacktestParameters,
    DrainMode,
    ErrorDetail,
    Operation,
    OperationParameters,
    OperationType,
    SweepParameters,
    TrainingParameters,
)

PARAMETER_MODELS: Final[Mapping[OperationType, type[OperationParameters]]] = {
    OperationType.BACKTEST: BacktestParameters,
    OperationType.TRAINING: TrainingParameters,
    OperationType.SWEEP: SweepParameters,
}


@dataclass(frozen=True, slots=True)
class Lease:
    """Time-limited right to run an operation and to write about it.

    Attributes:
        operation_id: Leased operation.
        epoch: Number that grows with every claim. Writes with an older epoch are rejected.
    """

    operation_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Operation that a worker has claimed, with its lease.

    Attributes:
        lease: Lease to run it under.
        operation_type: Type of the operation.
        parameters: Validated parameters.
        attempt: Number of this attempt, counted from 1.
        traceparent: W3C trace context of the submission, or None.
        queued_s: Seconds the operation waited in the queue.
    """

    lease: Lease
    operation_type: OperationType
    parameters: OperationParameters
    attempt: int
    traceparent: str | None
    queued_s: float


@dataclass(frozen=True, slots=True)
class Renewal:
    """Answer to a lease renewal: requests to the worker that holds the lease.

    Attributes:
        is_cancel_requested: True when a caller asked to cancel the operation.
        drain_mode: Mode in which the worker is drained, or None if it is not.
    """

    is_cancel_requested: bool
    drain_mode: DrainMode | None


def new_operation_id(operation_type: OperationType, now: datetime) -> str:
    """Return a readable id such as ``op_backtest_20261123_164500_1a2b3c4d``."""
    return f"op_{operation_type}_{now:%Y%m%d_%H%M%S}_{secrets.token_hex(4)}"


def parse_parameters(
    operation_type: OperationType, parameters: Mapping[str, Any]
) -> OperationParameters:
    """Validate parameters for an operation type and fill in the defaults.

    Raises:
        InvalidParameters: Names every invalid parameter, and why.
    """
    try:
        return PARAMETER_MODELS[operation_type].model_validate(parameters)
    except ValidationError as exc:
        known = PARAMETER_MODELS[operation_type].model_fields
        errors = exc.errors(include_url=False, include_input=False)
        problems = "; ".join(_describe(error, known) for error in errors)
        raise InvalidParameters(
            f"invalid parameters for a {operation_type}: {problems}",
            hint="docs/backtests-and-trainings.md lists the parameters of each type.",
        ) from exc


def _describe(error: ErrorDetails, known: Iterable[str]) -> str:
    """Return a sentence for an error of pydantic."""
    name, text = ".".join(map(str, error["loc"])), error["msg"]
    match error["type"]:
        case "extra_forbidden":
            return f"there is no parameter {name}{did_you_mean(name, known)}"
        case "missing":
            return f"{name} is missing"
        case "string_pattern_mismatch":
            return f"{name} has characters that are not allowed, or is too long"
    text = text.removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{name} {text.partition(', unable')[0]}".lstrip()


def to_operation(row: Row) -> Operation:
    """Convert a row into the schema that the API returns."""
    # A W3C traceparent is version-traceid-spanid-flags.
    trace_id = row["traceparent"].split("-")[1] if row["traceparent"] else None
    return Operation.model_validate({**row, "retry_at": row["not_before"], "trace_id": trace_id})


def to_error_detail(error: BaseException) -> ErrorDetail:
    """Convert an exception into an operation's error; a foreign one keeps its type and text."""
    if isinstance(error, KtrdrError):
        return ErrorDetail(kind=error.kind, message=error.message, hint=error.hint)
    text = " ".join(str(error).split())[:500]
    return ErrorDetail(
        kind="internal",
        message=f"{type(error).__name__}: {text}" if text else type(error).__name__,
        hint="The operation's log has the traceback.",
    )
