"""Ids of operations, and the paths made of them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from ktrdr.errors import InvalidParameters
from ktrdr.operations.files import model_directory, results_directory
from ktrdr.operations.model import new_operation_id, parse_parameters
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


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({}, "symbol is missing"),
        ({"fold": 3}, "there is no parameter fold; did you mean folds?"),
        ({"xyz": 3}, "there is no parameter xyz"),
        ({"folds": 0}, "folds must be greater than or equal to 1"),
        ({"folds": "many"}, "folds must be a valid integer"),
        ({"symbol": "../x"}, "symbol has characters that are not allowed, or is too long"),
        (
            {"start": "2020-01-02", "end": "2020-01-01"},
            "start 2020-01-02 is not before end 2020-01-01",
        ),
    ],
)
def test_a_wrong_parameter_is_answered_in_our_words(
    parameters: dict[str, Any], problem: str
) -> None:
    given = {"symbol": "SP500", **parameters} if parameters else {}
    with pytest.raises(InvalidParameters) as rejected:
        parse_parameters(OperationType.BACKTEST, given)
    assert rejected.value.message == f"invalid parameters for a backtest: {problem}"
