"""An operation's life as it ought to be, without a database: what the state machine compares with.

How often an operation is tried again, and after which pause, is not written down here a second
time: the machine asks the settlement functions themselves and tells the model what they decided.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ktrdr.schemas import OperationStatus

FINAL: Final = (OperationStatus.COMPLETED, OperationStatus.FAILED, OperationStatus.CANCELLED)


@dataclass
class Life:
    """One operation.

    Attributes:
        epoch: Of the last lease that was given; writes that name another are refused.
        leased: Whether a lease is out.
        overdue: Whether that lease has run out, unnoticed so far.
        checkpoint: Epoch and step of the newest one, or None.
        result: The number that was handed in as the result.
        events: Kind and status of all that has happened.
    """

    status: OperationStatus = OperationStatus.PENDING
    epoch: int = 0
    attempt: int = 0
    leased: bool = False
    overdue: bool = False
    cancel_requested: bool = False
    checkpoint: tuple[int, int] | None = None
    result: int | None = None
    error: str | None = None
    events: list[tuple[str, OperationStatus]] = field(
        default_factory=lambda: [("submitted", OperationStatus.PENDING)]
    )

    def may_be_claimed(self) -> bool:
        """Whether a worker that asks for it gets it, unless it is to wait before its next try."""
        free = not self.leased or self.overdue
        return self.status not in FINAL and free and not self.cancel_requested

    def is_held_under(self, epoch: int) -> bool:
        """Whether a write under this epoch counts."""
        return self.status is OperationStatus.RUNNING and self.epoch == epoch

    def claim(self) -> None:
        """A worker has got it."""
        self.epoch += 1
        self.attempt += 1
        self.leased, self.overdue = True, False
        self._become(OperationStatus.RUNNING, "started")

    def takes_checkpoint(self, epoch: int, step: int) -> bool:
        """Whether a checkpoint counts: the lease is good, and it does not lie before another."""
        goes_back = self.checkpoint is not None and (epoch, step) < self.checkpoint
        return self.is_held_under(epoch) and not goes_back

    def finish(self, status: OperationStatus, *, error: str | None = None) -> None:
        """It has ended, by its worker's word or because nobody works on it."""
        self.leased = self.overdue = False
        self.error = error
        if status is OperationStatus.COMPLETED:
            self.checkpoint = None
        self._become(status, "finished")

    def hand_back(self) -> None:
        """Its worker makes way: somebody else goes on, unless nobody is to."""
        if self.cancel_requested:
            self.finish(OperationStatus.CANCELLED)
        else:
            self._queue()

    def settle(self, status: OperationStatus, error: str | None) -> None:
        """Its worker or its process is gone, and this was decided about it."""
        self.epoch += 1
        if status is OperationStatus.PENDING:
            self._queue()
        else:
            self.finish(status, error=error)

    def cancel(self) -> None:
        """Somebody does not want it any more."""
        self.cancel_requested = True
        if not self.leased:
            self.finish(OperationStatus.CANCELLED)

    def resume(self) -> None:
        """Somebody wants it after all."""
        self.cancel_requested, self.error = False, None
        self._queue()

    def _queue(self) -> None:
        self.leased = self.overdue = False
        self._become(OperationStatus.PENDING, "requeued")

    def _become(self, status: OperationStatus, kind: str) -> None:
        self.status = status
        self.events.append((kind, status))
