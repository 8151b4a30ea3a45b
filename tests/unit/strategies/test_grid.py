"""Requests expand to combinations of parameters, or are rejected before anything runs."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.errors import InvalidParameters
from ktrdr.schemas import BacktestParameters, SweepParameters
from ktrdr.strategies.catalogue import load_strategy
from ktrdr.strategies.document_file import read_strategy
from ktrdr.strategies.grid import (
    MAX_COMBINATIONS,
    build_backtests,
    list_combinations,
    validate_request,
)

NOWHERE = Path("/nonexistent")
CROSS = load_strategy("moving_average_cross", NOWHERE)


def test_parameters_that_are_not_requested_have_their_defaults() -> None:
    combinations = list_combinations(CROSS, {"fast": 20})
    assert combinations == [{"fast": 20, "slow": slow} for slow in (50, 100, 200)]


def test_the_default_windows_of_the_moving_average_cross_are_unchanged() -> None:
    pairs = [tuple(combination.values()) for combination in list_combinations(CROSS, {})]
    assert pairs == [
        (fast, slow) for fast in (10, 20, 50) for slow in (50, 100, 200) if fast < slow
    ]


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=8),
    st.lists(st.integers(2, 1000), min_size=1, max_size=8),
)
def test_combinations_are_unique_sorted_and_satisfy_the_constraint(
    fast: list[int], slow: list[int]
) -> None:
    expected = sorted({(f, s) for f, s in product(fast, slow) if f < s})
    if not expected:
        with pytest.raises(InvalidParameters, match=r"no combination .* satisfies fast < slow"):
            list_combinations(CROSS, {"fast": fast, "slow": slow})
        return
    combinations = list_combinations(CROSS, {"fast": fast, "slow": slow})
    assert [tuple(combination.values()) for combination in combinations] == expected


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ({"fats": 10}, "moving_average_cross has no parameter fats; did you mean fast?"),
        ({"fast": 0}, "fast must be a whole number from 1 to 500, not 0"),
        ({"fast": (10, 501)}, "fast must be a whole number from 1 to 500, not 501"),
        ({"fast": 10.5}, "fast must be a whole number from 1 to 500, not 10.5"),
        ({"fast": 10**400}, "fast must be a whole number from 1 to 500, not a much larger number"),
        ({"fast": 1e300}, "fast must be a whole number from 1 to 500, not 1e+300"),
        ({"fast": 100, "slow": 50}, "no combination of the parameters of moving_average_cross"),
    ],
)
def test_an_invalid_parameter_is_reported_with_its_bounds(requested, message) -> None:
    with pytest.raises(InvalidParameters) as caught:
        list_combinations(CROSS, requested)
    assert message in caught.value.message
    assert "takes fast (1 to 500), slow (2 to 1000), with fast < slow." in str(caught.value.hint)


def test_a_whole_number_may_be_written_as_a_fraction() -> None:
    (combination,) = list_combinations(CROSS, {"fast": 10.0, "slow": 50.0})
    assert combination == {"fast": 10, "slow": 50}
    assert all(isinstance(value, int) for value in combination.values())


def test_more_than_1000_combinations_are_rejected() -> None:
    many = tuple(range(1, 40))
    with pytest.raises(
        InvalidParameters, match=r"1,\d{3} combinations of parameters are more than the limit"
    ):
        list_combinations(CROSS, {"fast": many, "slow": tuple(range(100, 140))})
    enough = list_combinations(CROSS, {"fast": tuple(range(1, 41)), "slow": tuple(range(100, 125))})
    assert len(enough) == MAX_COMBINATIONS


def test_a_grid_too_large_to_enumerate_is_rejected() -> None:
    with pytest.raises(InvalidParameters, match="250,000 combinations"):
        list_combinations(CROSS, {"fast": tuple(range(1, 501)), "slow": tuple(range(2, 502))})


def test_a_constraint_that_divides_by_zero_is_not_satisfied() -> None:
    text = (
        "name: x\nparameters:\n  a: {default: [0, 2], minimum: 0, maximum: 9}\n"
        "constraint: 1 / a < 1\nentry: close > a\nexit: never\n"
    )
    assert list_combinations(read_strategy(text, "x.yml"), {}) == [{"a": 2.0}]


def test_each_backtest_of_a_sweep_has_a_single_combination() -> None:
    sweep = SweepParameters(
        symbol="X",
        strategy_parameters={"fast": (5, 10), "slow": (10, 20)},
        metric="cagr",
        folds=3,
        seed=4,
        commission=0.01,
    )
    backtests = build_backtests(sweep, CROSS)
    assert [backtest.strategy_parameters for backtest in backtests] == [
        {"fast": 5, "slow": 10},
        {"fast": 5, "slow": 20},
        {"fast": 10, "slow": 20},
    ]
    for backtest in backtests:
        assert type(backtest) is BacktestParameters
        common = sweep.model_dump(exclude={"metric", "strategy_parameters"})
        assert backtest.model_dump(exclude={"strategy_parameters"}) == common
        assert len(list_combinations(CROSS, backtest.strategy_parameters)) == 1


def test_a_request_is_validated_together_with_its_strategy(tmp_path: Path) -> None:
    valid = BacktestParameters(symbol="X", strategy="buy_and_hold")
    assert validate_request(valid, tmp_path).name == "buy_and_hold"
    for changes, message in (
        ({"strategy": "buy_and_hole"}, "there is no strategy buy_and_hole; did you mean buy_and"),
        ({"strategy_parameters": {"fast": 1}}, "buy_and_hold has no parameter fast"),
    ):
        with pytest.raises(InvalidParameters) as caught:
            validate_request(
                BacktestParameters.model_validate({**valid.model_dump(), **changes}), tmp_path
            )
        assert message in caught.value.message
        assert caught.value.hint
