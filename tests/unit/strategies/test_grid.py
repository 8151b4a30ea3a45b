"""Which combinations a request comes to, and why one is refused before anything runs."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.errors import InvalidParameters
from ktrdr.schemas import BacktestParameters, SweepParameters
from ktrdr.strategies.catalogue import find
from ktrdr.strategies.document_file import read_strategy
from ktrdr.strategies.grid import MAX_COMBINATIONS, check, combinations, parts_of

NOWHERE = Path("/nonexistent")
CROSS = find("moving_average_cross", NOWHERE)


def test_what_is_not_asked_for_has_the_defaults_of_the_document() -> None:
    found = combinations(CROSS, {"fast": 20})
    assert found == [{"fast": 20, "slow": slow} for slow in (50, 100, 200)]


def test_the_cross_competes_over_the_windows_it_always_had() -> None:
    pairs = [tuple(each.values()) for each in combinations(CROSS, {})]
    assert pairs == [
        (fast, slow) for fast in (10, 20, 50) for slow in (50, 100, 200) if fast < slow
    ]


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=8),
    st.lists(st.integers(2, 1000), min_size=1, max_size=8),
)
def test_combinations_are_all_that_the_constraint_allows_each_once_in_order(
    fast: list[int], slow: list[int]
) -> None:
    expected = sorted({(f, s) for f, s in product(fast, slow) if f < s})
    if not expected:
        with pytest.raises(InvalidParameters, match=r"no combination .* has fast < slow"):
            combinations(CROSS, {"fast": fast, "slow": slow})
        return
    found = combinations(CROSS, {"fast": fast, "slow": slow})
    assert [tuple(each.values()) for each in found] == expected


@pytest.mark.parametrize(
    ("given_values", "said"),
    [
        ({"fats": 10}, "fats is no parameter of moving_average_cross; did you mean fast?"),
        ({"fast": 0}, "fast must be a whole number from 1 to 500, not 0"),
        ({"fast": (10, 501)}, "fast must be a whole number from 1 to 500, not 501"),
        ({"fast": 10.5}, "fast must be a whole number from 1 to 500, not 10.5"),
        ({"fast": 10**400}, "fast must be a whole number from 1 to 500, not a much larger one"),
        ({"fast": 1e300}, "fast must be a whole number from 1 to 500, not 1e+300"),
        ({"fast": 100, "slow": 50}, "no combination of the parameters of moving_average_cross"),
    ],
)
def test_a_parameter_that_does_not_fit_is_named_with_its_bounds(given_values, said) -> None:
    with pytest.raises(InvalidParameters) as caught:
        combinations(CROSS, given_values)
    assert said in caught.value.message
    assert "takes fast (1 to 500), slow (2 to 1000), with fast < slow." in str(caught.value.hint)


def test_a_whole_number_may_be_written_as_a_fraction() -> None:
    (found,) = combinations(CROSS, {"fast": 10.0, "slow": 50.0})
    assert found == {"fast": 10, "slow": 50}
    assert all(isinstance(value, int) for value in found.values())


def test_more_combinations_than_anybody_waits_for_are_refused() -> None:
    many = tuple(range(1, 40))
    with pytest.raises(InvalidParameters, match=r"1,\d{3} combinations of parameters are too many"):
        combinations(CROSS, {"fast": many, "slow": tuple(range(100, 140))})
    enough = combinations(CROSS, {"fast": tuple(range(1, 41)), "slow": tuple(range(100, 125))})
    assert len(enough) == MAX_COMBINATIONS


def test_a_grid_too_large_to_look_through_is_refused_at_once() -> None:
    with pytest.raises(InvalidParameters, match="250,000 combinations"):
        combinations(CROSS, {"fast": tuple(range(1, 501)), "slow": tuple(range(2, 502))})


def test_a_constraint_that_divides_by_nothing_is_not_met() -> None:
    text = (
        "name: x\nparameters:\n  a: {default: [0, 2], minimum: 0, maximum: 9}\n"
        "constraint: 1 / a < 1\nentry: close > a\nexit: never\n"
    )
    assert combinations(read_strategy(text, "x.yml"), {}) == [{"a": 2.0}]


def test_every_part_of_a_sweep_is_a_backtest_with_nothing_to_choose() -> None:
    sweep = SweepParameters(
        symbol="X",
        strategy_parameters={"fast": (5, 10), "slow": (10, 20)},
        metric="cagr",
        folds=3,
        seed=4,
        commission=0.01,
    )
    parts = parts_of(sweep, CROSS)
    assert [part.strategy_parameters for part in parts] == [
        {"fast": 5, "slow": 10},
        {"fast": 5, "slow": 20},
        {"fast": 10, "slow": 20},
    ]
    for part in parts:
        assert type(part) is BacktestParameters
        common = sweep.model_dump(exclude={"metric", "strategy_parameters"})
        assert part.model_dump(exclude={"strategy_parameters"}) == common
        assert len(combinations(CROSS, part.strategy_parameters)) == 1


def test_a_request_is_checked_as_a_whole(tmp_path: Path) -> None:
    good = BacktestParameters(symbol="X", strategy="buy_and_hold")
    assert check(good, tmp_path).name == "buy_and_hold"
    for odd, said in (
        ({"strategy": "buy_and_hole"}, "there is no strategy buy_and_hole; did you mean buy_and"),
        ({"strategy_parameters": {"fast": 1}}, "fast is no parameter of buy_and_hold"),
    ):
        with pytest.raises(InvalidParameters) as caught:
            check(BacktestParameters.model_validate({**good.model_dump(), **odd}), tmp_path)
        assert said in caught.value.message
        assert caught.value.hint
