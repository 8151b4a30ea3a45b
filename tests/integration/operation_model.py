"""Model of an operation's life without a database, which the state machine compares with.

The model does not repeat the retry policy: the machine asks the policy itself and tells the model
the decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ktrdr.schemas import OperationStatus

FINAL: Final = (OperationStatus.COMPLETED, OperationStatus.FAILED, OperationStatus.CANCELLED)


@dataclass
class OperationModel:
    """Expected state of one operation.

    Attributes:
        epoch: Epoch of the last lease. Writes under another epoch are rejected.
        is_leased: True while a lease exists.
        is_overdue: True if that lease has expired and nothing has noticed.
        is_cancel_requested: True after a cancel request.
        checkpoint: Epoch and step of the newest checkpoint, or None.
        result: Number that was reported as the result, or None.
        events: Kind and status of all events.
    """

    status: OperationStatus = OperationStatus.PENDING
    epoch: int = 0
    attempt: int = 0
    is_leased: bool = False
    is_overdue: bool = False
    is_cancel_requested: bool = False
    checkpoint: tuple[int, int] | None = None
    result: int | None = None
    error: str | None = None
    events: list[tuple[str, OperationStatus]] = field(
        default_factory=lambda: [("submitted", OperationStatus.PENDING)]
    )

    def is_claimable(self) -> bool:
        """Return True if a claim succeeds, apart from the delay of a retry."""
        is_free = not self.is_leased or self.is_overdue
        return self.status not in FINAL and is_free and not self.is_cancel_requested

    def is_held_under(self, epoch: int) -> bool:
        """Return True if a write under this epoch is accepted."""
        return self.status is OperationStatus.RUNNING and self.epoch == epoch

    def accepts_checkpoint(self, epoch: int, step: int) -> bool:
        """Return True for a valid lease and a step that does not lie before the last one."""
        goes_back = self.checkpoint is not None and (epoch, step) < self.checkpoint
        return self.is_held_under(epoch) and not goes_back

    def claim(self) -> None:
        self.epoch += 1
        self.attempt += 1
        self.is_leased, self.is_overdue = True, False
        self._set_status(OperationStatus.RUNNING, "started")

    def finish(self, status: OperationStatus, *, error: str | None = None) -> None:
        """End the operation, by its worker or without one."""
        self.is_leased = self.is_overdue = False
        self.error = error
        if status is OperationStatus.COMPLETED:
            self.checkpoint = None
        self._set_status(status, "finished")

    def requeue(self) -> None:
        """Return the operation to the queue, or cancel it after a cancel request."""
        if self.is_cancel_requested:
            self.finish(OperationStatus.CANCELLED)
        else:
            self._queue()

    def apply_retry_decision(self, status: OperationStatus, error: str | None) -> None:
        """Apply the decision after a lost worker or child process."""
        self.epoch += 1
        if status is OperationStatus.PENDING:
            self._queue()
        else:
            self.finish(status, error=error)

    def cancel(self) -> None:
        self.is_cancel_requested = True
        if not self.is_leased:
            self.finish(OperationStatus.CANCELLED)

    def resume(self) -> None:
        self.is_cancel_requested, self.error = False, None
        self._queue()

    def _queue(self) -> None:
        self.is_leased = self.is_overdue = False
        self._set_status(OperationStatus.PENDING, "requeued")

    def _set_status(self, status: OperationStatus, kind: str) -> None:
        self.status = status
        self.events.append((kind, status))
