"""Messages that earlier releases wrote are still understood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ktrdr.schemas import BacktestParameters, SweepParameters, TrainingParameters
from ktrdr.strategies.grid import list_combinations, validate_request

# What release 0.1.0 wrote to the database for a backtest of which only the symbol was said.
OF_0_1_0: dict[str, Any] = {
    "symbol": "SP500",
    "timeframe": "1d",
    "start": None,
    "end": None,
    "seed": 0,
    "strategy": "moving_average_cross",
    "fast_windows": [10, 20, 50],
    "slow_windows": [50, 100, 200],
    "folds": 5,
    "train_bars": 756,
    "initial_capital": 100000.0,
    "commission": 0.0005,
    "slippage": 0.0002,
}


def test_a_backtest_that_release_0_1_0_queued_is_the_same_backtest() -> None:
    found = BacktestParameters.model_validate(OF_0_1_0)
    assert found.strategy_parameters == {"fast": (10, 20, 50), "slow": (50, 100, 200)}
    strategy = validate_request(found, Path("/nonexistent"))
    now = validate_request(BacktestParameters(symbol="SP500"), Path("/nonexistent"))
    assert list_combinations(strategy, found.strategy_parameters) == list_combinations(now, {})
    assert (found.commission, found.slippage) == (now.costs.commission, now.costs.slippage)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"fast_windows": [5, 10]}, {"fast": (5, 10)}),
        ({"slow_windows": [30]}, {"slow": (30,)}),
        ({"fast_windows": [1, 500], "slow_windows": [2, 1000]}, None),
        ({}, {}),
    ],
)
def test_windows_become_parameters_and_what_was_allowed_still_is(given, expected) -> None:
    found = BacktestParameters.model_validate({"symbol": "X", **given})
    assert found.strategy_parameters == (
        {"fast": (1, 500), "slow": (2, 1000)} if expected is None else expected
    )
    validate_request(found, Path("/nonexistent"))


def test_windows_are_no_keys_of_anything_else() -> None:
    for given in (
        {"strategy": "buy_and_hold", "fast_windows": [5]},
        {"strategy_parameters": {"fast": 5}, "fast_windows": [5]},
    ):
        with pytest.raises(ValidationError, match="fast_windows"):
            BacktestParameters.model_validate({"symbol": "X", **given})
    with pytest.raises(ValidationError):
        BacktestParameters.model_validate(["symbol"])


def test_what_was_written_reads_as_the_same_again() -> None:
    for message in (
        BacktestParameters(symbol="X", strategy_parameters={"fast": (1, 2), "slow": 30}),
        SweepParameters(symbol="X", metric="cagr"),
        TrainingParameters(symbol="X", features="rsi_reversion", patience=3),
    ):
        assert type(message).model_validate(message.model_dump(mode="json")) == message


def test_a_training_that_release_0_1_0_queued_still_runs() -> None:
    old = {"symbol": "X", "model_name": "direction", "epochs": 3, "hidden_units": [8]}
    assert TrainingParameters.model_validate(old).features == "default"
