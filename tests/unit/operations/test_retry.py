"""Retry policy: what happens to an operation after a failed attempt."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.operations.retry import (
    RETRY_POLICIES,
    FailureKind,
    RetryPolicy,
    decide,
    lost_lease_error,
)
from ktrdr.schemas import ErrorDetail, OperationStatus, OperationType

ERROR = ErrorDetail(kind="killed", message="it was killed")
CASES = [(kind, failure) for kind in OperationType for failure in FailureKind]


def row(
    failures: int = 0,
    *,
    operation_type: OperationType = OperationType.BACKTEST,
    cancelled: bool = False,
) -> dict[str, object]:
    return {
        "operation_type": operation_type.value,
        "setbacks": failures,
        "cancel_requested_at": datetime(2026, 1, 1, tzinfo=UTC) if cancelled else None,
        "worker_id": "w",
    }


@pytest.mark.parametrize(("operation_type", "failure"), CASES)
def test_an_operation_is_retried_up_to_the_limit_and_then_fails_with_its_own_error(
    operation_type: OperationType, failure: FailureKind
) -> None:
    limit = RETRY_POLICIES[operation_type][failure].max_failures
    decisions = [
        decide(row(earlier, operation_type=operation_type), failure, ERROR)
        for earlier in range(limit)
    ]
    *retries, last = decisions
    assert [decision.status for decision in retries] == [OperationStatus.PENDING] * (limit - 1)
    assert all(decision.error is None for decision in retries)
    assert (last.status, last.error) == (OperationStatus.FAILED, ERROR)


@pytest.mark.parametrize(("operation_type", "failure"), CASES)
def test_delays_grow_up_to_a_maximum(operation_type: OperationType, failure: FailureKind) -> None:
    policy = RETRY_POLICIES[operation_type][failure]
    delays = [policy.delay_after(number) for number in range(1, 100)]
    assert delays == sorted(delays)
    assert delays[0] == policy.first_delay_s
    assert delays[-1] == policy.max_delay_s


def test_a_full_disk_is_retried_for_longer_than_an_operation_that_kills_its_process() -> None:
    def total_delay_s(failure: FailureKind) -> float:
        policy = RETRY_POLICIES[OperationType.BACKTEST][failure]
        return sum(policy.delay_after(number) for number in range(1, policy.max_failures))

    assert total_delay_s(FailureKind.DEATH) < 10
    assert 1800 < total_delay_s(FailureKind.TRANSIENT) < 3600


@pytest.mark.parametrize("failure", list(FailureKind))
def test_a_cancelled_operation_is_not_retried(failure: FailureKind) -> None:
    decision = decide(row(cancelled=True), failure, ERROR)
    assert (decision.status, decision.error) == (OperationStatus.CANCELLED, None)


def test_the_error_of_a_lost_lease_names_the_worker() -> None:
    error = lost_lease_error(row(4))
    assert (error.kind, "worker w stopped responding" in error.message) == ("lease-lost", True)


@given(
    st.builds(
        RetryPolicy,
        max_failures=st.integers(1, 50),
        first_delay_s=st.floats(0.001, 100),
        max_delay_s=st.floats(100, 10_000),
    ),
    st.integers(1, 10_000),
)
def test_no_delay_exceeds_the_maximum(policy: RetryPolicy, failures: int) -> None:
    assert 0 < policy.delay_after(failures) <= policy.max_delay_s
