"""Operations: what is submitted, what becomes of it, what it finds."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import Field

from ktrdr.schemas.base import Answer, Contract
from ktrdr.schemas.workers import WorkerType


class OperationType(StrEnum):
    """The kinds of work."""

    BACKTEST = "backtest"
    TRAINING = "training"
    SWEEP = "sweep"

    @property
    def worker_type(self) -> WorkerType:
        """The type of worker that does this work."""
        return _WORKER_OF[self]


_WORKER_OF: Final = {
    OperationType.BACKTEST: WorkerType.BACKTESTING,
    OperationType.TRAINING: WorkerType.TRAINING,
    OperationType.SWEEP: WorkerType.BACKTESTING,
}


class OperationStatus(StrEnum):
    """The life of an operation; the last three are final."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing can change any more."""
        return self not in (OperationStatus.PENDING, OperationStatus.RUNNING)


class OperationRequest(Contract):
    """The body of ``POST /operations``; the parameters must fit the type."""

    operation_type: OperationType
    parameters: dict[str, Any] = Field(default_factory=dict)


class OperationFault(Answer):
    """Why an operation failed: one sentence, and what to do about it."""

    kind: str
    message: str
    hint: str | None = None


class Operation(Answer):
    """An operation as the API shows it."""

    operation_id: str
    operation_type: OperationType
    status: OperationStatus
    parameters: dict[str, Any]
    progress: float
    progress_message: str | None
    worker_id: str | None
    attempt: int
    submitted_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    parent_id: str | None = Field(default=None, description="The operation this is a part of.")
    retry_at: datetime | None = Field(
        default=None, description="When it may be tried again, while it waits for that."
    )
    retry_reason: str | None = Field(
        default=None, description="Why the last attempt that had no outcome ended."
    )
    error: OperationFault | None
    trace_id: str | None


class OperationPage(Answer):
    """One page of a listing, newest first; pass ``next_cursor`` to get the next."""

    operations: list[Operation]
    next_cursor: str | None


class OperationResults(Answer):
    """What a completed operation found.

    Attributes:
        summary: Named figures; each handler documents its own.
        directory: Where the files are, relative to the shared directory.
        files: Their names within it.
        report: The self-contained HTML page among them.
    """

    operation_id: str
    operation_type: OperationType
    summary: dict[str, float | int | str | None]
    directory: str
    files: list[str]
    report: str


class OperationEvent(Answer):
    """One step in an operation's life, as ``GET /operations/{id}/events`` streams them."""

    event_id: int
    operation_id: str
    at: datetime
    kind: Literal["submitted", "started", "progress", "checkpoint", "requeued", "finished"]
    status: OperationStatus
    progress: float
    message: str | None = None


class LeftoverFile(Answer):
    """A directory or log that an attempt left behind and nobody needs."""

    operation_id: str
    path: str
