"""Schemas keep the names and values that other releases read and wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ktrdr.schemas import (
    BacktestParameters,
    ProblemDocument,
    SweepParameters,
    TrainingParameters,
    Worker,
    WorkerHealth,
    WorkerType,
)
from ktrdr.strategies.grid import list_combinations, validate_request

# Parameters that release 0.1.0 stored for a backtest submitted with only a symbol.
RELEASE_0_1_0: dict[str, Any] = {
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


def test_a_backtest_of_release_0_1_0_keeps_its_meaning() -> None:
    parameters = BacktestParameters.model_validate(RELEASE_0_1_0)
    assert parameters.strategy_parameters == {"fast": (10, 20, 50), "slow": (50, 100, 200)}
    strategy = validate_request(parameters, Path("/nonexistent"))
    now = validate_request(BacktestParameters(symbol="SP500"), Path("/nonexistent"))
    assert list_combinations(strategy, parameters.strategy_parameters) == list_combinations(now, {})
    assert (parameters.commission, parameters.slippage) == (
        now.costs.commission,
        now.costs.slippage,
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"fast_windows": [5, 10]}, {"fast": (5, 10)}),
        ({"slow_windows": [30]}, {"slow": (30,)}),
        ({"fast_windows": [1, 500], "slow_windows": [2, 1000]}, None),
        ({}, {}),
    ],
)
def test_windows_become_strategy_parameters_of_any_allowed_value(given, expected) -> None:
    parameters = BacktestParameters.model_validate({"symbol": "X", **given})
    assert parameters.strategy_parameters == (
        {"fast": (1, 500), "slow": (2, 1000)} if expected is None else expected
    )
    validate_request(parameters, Path("/nonexistent"))


def test_windows_are_rejected_for_any_other_strategy() -> None:
    for values in (
        {"strategy": "buy_and_hold", "fast_windows": [5]},
        {"strategy_parameters": {"fast": 5}, "fast_windows": [5]},
    ):
        with pytest.raises(ValidationError, match="fast_windows"):
            BacktestParameters.model_validate({"symbol": "X", **values})
    with pytest.raises(ValidationError):
        BacktestParameters.model_validate(["symbol"])


def test_parameters_survive_a_round_trip_through_json() -> None:
    for parameters in (
        BacktestParameters(symbol="X", strategy_parameters={"fast": (1, 2), "slow": 30}),
        SweepParameters(symbol="X", metric="cagr"),
        TrainingParameters(symbol="X", features="rsi_reversion", patience=3),
    ):
        assert type(parameters).model_validate(parameters.model_dump(mode="json")) == parameters


def test_a_training_of_release_0_1_0_gets_the_default_features() -> None:
    old = {"symbol": "X", "model_name": "direction", "epochs": 3, "hidden_units": [8]}
    assert TrainingParameters.model_validate(old).features == "default"


def test_health_keeps_the_field_that_earlier_releases_read() -> None:
    health = WorkerHealth(
        status="idle",
        worker_id="w",
        worker_type=WorkerType.TRAINING,
        version="sha-7e57ed0",
        commit="7e57ed0",
        current_operation_id=None,
        registered=True,
        uptime_s=1.0,
        contract_migrations=("0003_setbacks",),
    )
    assert health.model_dump(mode="json")["contracts"] == ["0003_setbacks"]
    assert WorkerHealth.model_validate_json(health.model_dump_json()) == health


def test_a_problem_document_names_the_kind_of_error_in_its_type() -> None:
    problem = ProblemDocument.create("not-found", 404, "there is no such thing")
    assert (problem.type, problem.title) == ("urn:ktrdr:problem:not-found", "Not Found")
    assert problem.kind == "not-found"


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "available"),
        ({"status": "busy"}, "busy"),
        ({"drain": "finish"}, "drained"),
        ({"status": "busy", "drain": "finish"}, "drained"),
        ({"status": "temporarily_unavailable", "problem": "no share"}, "not ready"),
        (
            {"status": "temporarily_unavailable", "problem": "no share", "drain": "finish"},
            "not ready",
        ),
        (
            {
                "status": "temporarily_unavailable",
                "problem": "no share",
                "health_check_failures": 3,
            },
            "temporarily unavailable",
        ),
    ],
)
def test_the_state_of_a_worker_says_more_than_the_status_that_older_clients_know(
    changes: dict[str, Any], state: str
) -> None:
    worker = Worker.model_validate(
        {
            "worker_id": "w",
            "worker_type": "training",
            "endpoint_url": "http://w:5005",
            "status": "available",
            "current_operation_id": None,
            "capabilities": {},
            "version": "sha-1234567",
            "node": "w",
            "registered_at": "2026-01-01T00:00:00Z",
            "last_healthy_at": None,
            "health_check_failures": 0,
            **changes,
        }
    )
    assert worker.state == state
    sent = worker.model_dump(mode="json")
    assert sent["state"] == state
    assert sent["status"] in ("available", "busy", "temporarily_unavailable")
    # Of what a later release sends, only what it adds is ignored.
    assert Worker.model_validate({**sent, "state": "unheard of"}) == worker
