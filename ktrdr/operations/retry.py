"""Retry policy: decides what happens to an operation whose attempt failed without a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from ktrdr.schemas import ErrorDetail, OperationStatus, OperationType


class FailureKind(StrEnum):
    """Kind of failure after which an operation may be retried."""

    LOST_LEASE = "lost lease"
    """The worker stopped renewing the lease: a crash, a power cut, a broken network."""
    DEATH = "death"
    """The child process ended without a last message."""
    TRANSIENT = "transient"
    """A resource was unavailable, such as space in the shared directory."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Policy that decides when an operation is retried.

    Attributes:
        max_failures: Failures in a row, without progress between them, after which it fails.
        first_delay_s: Delay before the first retry, in seconds. It doubles with every retry.
        max_delay_s: Longest delay in seconds.
    """

    max_failures: int
    first_delay_s: float
    max_delay_s: float

    def delay_after(self, failures: int) -> float:
        """Return the delay in seconds after the given number of failures in a row."""
        return float(min(self.first_delay_s * 2.0 ** min(failures - 1, 30), self.max_delay_s))


# A lost worker or process is seldom the operation's fault, so the first delay is short. An
# operation that kills its worker again and again would kill the next one too.
_DEFAULT: Final[Mapping[FailureKind, RetryPolicy]] = {
    FailureKind.LOST_LEASE: RetryPolicy(max_failures=5, first_delay_s=0.5, max_delay_s=60),
    FailureKind.DEATH: RetryPolicy(max_failures=3, first_delay_s=0.5, max_delay_s=60),
    # About 34 minutes in all: enough for an operator to free space, or for a server to return.
    FailureKind.TRANSIENT: RetryPolicy(max_failures=14, first_delay_s=2, max_delay_s=300),
}
RETRY_POLICIES: Final[Mapping[OperationType, Mapping[FailureKind, RetryPolicy]]] = {
    OperationType.BACKTEST: _DEFAULT,
    # A training costs more to restart, and lack of memory kills it more often.
    OperationType.TRAINING: {
        **_DEFAULT,
        FailureKind.DEATH: RetryPolicy(max_failures=3, first_delay_s=2, max_delay_s=120),
    },
    OperationType.SWEEP: _DEFAULT,
}


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """Decision about an operation after a failed attempt.

    Attributes:
        status: New status: pending for a retry, otherwise failed or cancelled.
        error: Error of a failed operation, otherwise None.
        delay_s: Delay before the retry in seconds; 0 without a retry.
    """

    status: OperationStatus
    error: ErrorDetail | None = None
    delay_s: float = 0.0


def decide(row: Mapping[str, Any], failure: FailureKind, error: ErrorDetail) -> RetryDecision:
    """Decide whether an operation is retried after a failed attempt.

    Args:
        row: Operation as it was during the attempt.
        failure: Kind of failure.
        error: Description of the failure, which becomes the operation's error without a retry.
    """
    if row["cancel_requested_at"] is not None:
        return RetryDecision(OperationStatus.CANCELLED)
    policy = RETRY_POLICIES[OperationType(row["operation_type"])][failure]
    failures = row["setbacks"] + 1
    if failures >= policy.max_failures:
        return RetryDecision(OperationStatus.FAILED, error)
    return RetryDecision(OperationStatus.PENDING, delay_s=policy.delay_after(failures))


def lost_lease_error(row: Mapping[str, Any]) -> ErrorDetail:
    """Return the error of an operation whose worker stopped renewing its lease."""
    return ErrorDetail(
        kind="lease-lost",
        message=f"worker {row['worker_id']} stopped responding, after {row['setbacks']} earlier"
        " failures without progress",
        hint="Check that worker's log and memory, then run `ktrdr operations resume`.",
    )
