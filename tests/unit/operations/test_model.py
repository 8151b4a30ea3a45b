"""Operations as rows, without a database."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ktrdr.operations.files import model_directory, results_directory
from ktrdr.operations.model import new_operation_id
from ktrdr.schemas import OperationType


def test_an_id_says_what_and_when_and_is_its_own() -> None:
    now = datetime(2026, 11, 23, 16, 45, tzinfo=UTC)
    made = {new_operation_id(OperationType.BACKTEST, now) for _ in range(200)}
    assert len(made) == 200
    assert all(re.fullmatch(r"op_backtest_20261123_164500_[0-9a-f]{8}", each) for each in made)
    one = made.pop()
    assert results_directory(one) == f"results/{one.removeprefix('op_')}"
    assert model_directory(one, "direction") == f"models/direction_{one.split('_', 2)[2]}"
