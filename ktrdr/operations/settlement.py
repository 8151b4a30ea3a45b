"""What becomes of an operation whose attempt had no outcome; decided without a database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from ktrdr.schemas import OperationFault, OperationStatus, OperationType

Row = Mapping[str, Any]


class Setback(StrEnum):
    """How an attempt can end without being to blame, at first."""

    LOST_LEASE = "lost lease"
    """Its worker fell silent: a crash, a power cut, a cut network."""
    DEATH = "death"
    """The process that did the work died without a word."""
    TRANSIENT = "transient"
    """What the work needs was not there, such as space in the shared directory."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a setback may come, in a row and without any progress, and the pauses between.

    Attributes:
        limit: The setback that is one too many.
        first_pause_s: Before the second attempt; then it doubles.
        longest_pause_s: It grows no further than this.
    """

    limit: int
    first_pause_s: float
    longest_pause_s: float

    def pause_after(self, setbacks: int) -> float:
        """Seconds to wait after so many setbacks, the last one included."""
        return float(min(self.first_pause_s * 2.0 ** min(setbacks - 1, 30), self.longest_pause_s))


# A worker or process that vanished is seldom the work's fault, so the first pause is short. Work
# that ends it again and again is poison: it would end the next one too.
_QUICK: Final[Mapping[Setback, Patience]] = {
    Setback.LOST_LEASE: Patience(limit=5, first_pause_s=0.5, longest_pause_s=60),
    Setback.DEATH: Patience(limit=3, first_pause_s=0.5, longest_pause_s=60),
    # In all some 40 minutes: as long as it takes somebody to make room, or a server to come back.
    Setback.TRANSIENT: Patience(limit=14, first_pause_s=2, longest_pause_s=300),
}
# A training costs more to begin again, and what killed it is more often want of memory.
_HEAVY: Final[Mapping[Setback, Patience]] = {
    **_QUICK,
    Setback.DEATH: Patience(limit=3, first_pause_s=2, longest_pause_s=120),
}
PATIENCE: Final[Mapping[OperationType, Mapping[Setback, Patience]]] = {
    OperationType.BACKTEST: _QUICK,
    OperationType.TRAINING: _HEAVY,
    OperationType.SWEEP: _QUICK,
}


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of an operation.

    Attributes:
        error: Why it failed; None if it did not.
        pause_s: How long it waits before it is tried again; 0 if it is not.
    """

    status: OperationStatus
    error: OperationFault | None = None
    pause_s: float = 0.0


def settle(row: Row, setback: Setback, fault: OperationFault) -> Settlement:
    """Decides about an operation after a setback.

    Args:
        row: The operation as it was during the attempt.
        setback: What happened.
        fault: How it happened, which becomes the operation's own error if it is given up.
    """
    if row["cancel_requested_at"] is not None:
        return Settlement(OperationStatus.CANCELLED)
    patience = PATIENCE[OperationType(row["operation_type"])][setback]
    setbacks = row["setbacks"] + 1
    if setbacks >= patience.limit:
        return Settlement(OperationStatus.FAILED, fault)
    return Settlement(OperationStatus.PENDING, pause_s=patience.pause_after(setbacks))


def silence_of(row: Row) -> OperationFault:
    """The fault of an operation whose worker fell silent."""
    return OperationFault(
        kind="lease-lost",
        message=f"its worker {row['worker_id']} fell silent, after {row['setbacks']} setbacks"
        " before and no progress since",
        hint="Look at that worker's log and memory; then `ktrdr operations resume`.",
    )
