"""What becomes of an operation after a setback."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.operations.settlement import PATIENCE, Patience, Setback, settle, silence_of
from ktrdr.schemas import OperationFault, OperationStatus, OperationType

FAULT = OperationFault(kind="killed", message="it was killed")
CASES = [(kind, setback) for kind in OperationType for setback in Setback]


def row(
    setbacks: int = 0, *, kind: OperationType = OperationType.BACKTEST, cancelled: bool = False
) -> dict[str, object]:
    asked = datetime(2026, 1, 1, tzinfo=UTC) if cancelled else None
    return {
        "operation_type": kind.value,
        "setbacks": setbacks,
        "cancel_requested_at": asked,
        "worker_id": "w",
    }


@pytest.mark.parametrize(("kind", "setback"), CASES)
def test_it_is_tried_again_up_to_the_limit_and_then_fails_with_its_own_fault(
    kind: OperationType, setback: Setback
) -> None:
    limit = PATIENCE[kind][setback].limit
    settled = [settle(row(before, kind=kind), setback, FAULT) for before in range(limit)]
    assert [each.status for each in settled[:-1]] == [OperationStatus.PENDING] * (limit - 1)
    assert (settled[-1].status, settled[-1].error) == (OperationStatus.FAILED, FAULT)
    assert all(each.error is None for each in settled[:-1])


@pytest.mark.parametrize(("kind", "setback"), CASES)
def test_the_pauses_grow_and_have_an_end(kind: OperationType, setback: Setback) -> None:
    patience = PATIENCE[kind][setback]
    pauses = [patience.pause_after(number) for number in range(1, 100)]
    assert pauses == sorted(pauses)
    assert pauses[0] == patience.first_pause_s
    assert pauses[-1] == patience.longest_pause_s


def test_a_full_disk_is_waited_for_longer_than_a_poison_is_tried() -> None:
    def patience_s(setback: Setback) -> float:
        patience = PATIENCE[OperationType.BACKTEST][setback]
        return sum(patience.pause_after(number) for number in range(1, patience.limit))

    assert patience_s(Setback.DEATH) < 10
    assert 1800 < patience_s(Setback.TRANSIENT) < 3600


@pytest.mark.parametrize("setback", list(Setback))
def test_what_somebody_wants_cancelled_is_not_tried_again(setback: Setback) -> None:
    settled = settle(row(cancelled=True), setback, FAULT)
    assert (settled.status, settled.error) == (OperationStatus.CANCELLED, None)


def test_a_worker_that_fell_silent_is_named() -> None:
    fault = silence_of(row(4))
    assert (fault.kind, "worker w fell silent" in fault.message) == ("lease-lost", True)


@given(
    st.builds(
        Patience,
        limit=st.integers(1, 50),
        first_pause_s=st.floats(0.001, 100),
        longest_pause_s=st.floats(100, 10_000),
    ),
    st.integers(1, 10_000),
)
def test_no_pause_is_longer_than_the_longest(patience: Patience, setbacks: int) -> None:
    assert 0 < patience.pause_after(setbacks) <= patience.longest_pause_s
