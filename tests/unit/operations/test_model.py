"""Ids of operations, and the paths made of them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ktrdr.operations.files import model_directory, results_directory
from ktrdr.operations.model import new_operation_id
from ktrdr.schemas import OperationType


def test_an_id_names_type_and_time_and_is_unique() -> None:
    now = datetime(2026, 11, 23, 16, 45, tzinfo=UTC)
    ids = {new_operation_id(OperationType.BACKTEST, now) for _ in range(200)}
    assert len(ids) == 200
    assert all(re.fullmatch(r"op_backtest_20261123_164500_[0-9a-f]{8}", name) for name in ids)


def test_results_and_model_are_named_after_the_operation() -> None:
    operation_id = "op_training_20261123_164500_1a2b3c4d"
    assert results_directory(operation_id) == "results/training_20261123_164500_1a2b3c4d"
    assert model_directory(operation_id, "direction") == "models/direction_20261123_164500_1a2b3c4d"
