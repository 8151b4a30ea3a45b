"""Decisions about operations, without a database."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from ktrdr.contracts import OperationFault, OperationStatus, OperationType
from ktrdr.operations.model import (
    MAX_DEATHS,
    MAX_LOST_LEASES,
    model_directory,
    new_operation_id,
    results_directory,
    settle_death,
    settle_expired,
)

FAULT = OperationFault(kind="killed", message="it was killed")


def row(lost: int = 0, *, cancelled: bool = False) -> dict[str, object]:
    asked = datetime(2026, 1, 1, tzinfo=UTC) if cancelled else None
    return {"lost_leases": lost, "cancel_requested_at": asked, "worker_id": "w"}


def test_an_id_says_what_and_when_and_is_its_own() -> None:
    now = datetime(2026, 11, 23, 16, 45, tzinfo=UTC)
    made = {new_operation_id(OperationType.BACKTEST, now) for _ in range(200)}
    assert len(made) == 200
    assert all(re.fullmatch(r"op_backtest_20261123_164500_[0-9a-f]{8}", each) for each in made)
    one = made.pop()
    assert results_directory(one) == f"results/{one.removeprefix('op_')}"
    assert model_directory(one, "direction") == f"models/direction_{one.split('_', 2)[2]}"


@pytest.mark.parametrize("lost", range(MAX_LOST_LEASES - 1))
def test_work_of_a_silent_worker_goes_back_to_the_queue(lost: int) -> None:
    assert settle_expired(row(lost)).status is OperationStatus.PENDING


def test_work_that_outlives_too_many_workers_is_what_ends_them() -> None:
    settled = settle_expired(row(MAX_LOST_LEASES - 1))
    assert settled.status is OperationStatus.FAILED
    assert settled.error
    assert settled.error.kind == "lease-lost"


def test_work_whose_process_dies_is_tried_again_and_then_fails_with_the_last_reason() -> None:
    assert [settle_death(row(lost), FAULT).status for lost in range(MAX_DEATHS)] == [
        *[OperationStatus.PENDING] * (MAX_DEATHS - 1),
        OperationStatus.FAILED,
    ]
    assert settle_death(row(MAX_DEATHS - 1), FAULT).error == FAULT


def test_what_somebody_wants_cancelled_is_not_tried_again() -> None:
    for settled in (settle_expired(row(cancelled=True)), settle_death(row(cancelled=True), FAULT)):
        assert (settled.status, settled.error) == (OperationStatus.CANCELLED, None)
