"""Folds follow one another without gap or overlap, and choices depend on the past alone."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.backtesting.indicator_cache import IndicatorCache
from ktrdr.backtesting.target_weights import TargetWeights
from ktrdr.backtesting.walkforward import (
    MIN_TEST_BARS,
    Fold,
    ParameterChoice,
    choose_parameters,
    net_returns,
    out_of_sample_weights,
    plan_folds,
)
from ktrdr.errors import InvalidParameters
from ktrdr.marketdata.bars import Bars
from ktrdr.strategies.catalogue import load_strategy
from ktrdr.strategies.grid import list_combinations
from tests.unit.backtesting.bars import random_bars

CROSS = load_strategy("moving_average_cross", Path("/nonexistent"))
PAIRS = list_combinations(CROSS, {"fast": (3, 5, 10), "slow": (15, 30)})


def target_weights_on(bars: Bars) -> TargetWeights:
    return TargetWeights(CROSS, IndicatorCache(bars, {}))


def choose(bars: Bars, fold: Fold, combinations) -> ParameterChoice:
    return choose_parameters(
        bars.close,
        fold,
        combinations,
        target_weights_on(bars),
        cost_rate=0.001,
        bars_per_year=252,
    )


@given(st.integers(1, 100), st.integers(20, 500), st.integers(0, 3000))
def test_folds_cover_every_bar_after_the_first_training_once(
    folds: int, train_bars: int, more: int
) -> None:
    bars = train_bars + folds * MIN_TEST_BARS + more
    plan = plan_folds(bars, folds=folds, train_bars=train_bars)
    assert [fold.number for fold in plan] == list(range(1, folds + 1))
    assert (plan[0].test_start, plan[-1].test_end) == (train_bars, bars)
    assert all(before.test_end == after.test_start for before, after in pairwise(plan))
    assert all(fold.test_start - fold.train_start == train_bars for fold in plan)
    lengths = [fold.test_end - fold.test_start for fold in plan]
    assert min(lengths) >= MIN_TEST_BARS
    assert max(lengths) - min(lengths) <= 1


def test_one_bar_too_few_is_rejected() -> None:
    assert len(plan_folds(110, folds=5, train_bars=100)) == 5
    with pytest.raises(InvalidParameters, match="109 bars are too few") as caught:
        plan_folds(109, folds=5, train_bars=100)
    assert "needs 110" in str(caught.value.hint)


def test_returns_are_earned_from_the_close_after_the_purchase_and_changes_cost() -> None:
    closes, weights = np.array([100.0, 110, 121, 100]), np.array([0.0, 1, 1, 0])
    expected = [0.0, -0.01, 0.1, 100 / 121 - 1 - 0.01]
    np.testing.assert_allclose(net_returns(closes, weights, 0.01), expected, rtol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_combination_has_a_better_sharpe_ratio_in_training(seed: int) -> None:
    bars = random_bars(400, seed)
    (fold,) = plan_folds(400, folds=1, train_bars=300)
    chosen, alone = choose(bars, fold, PAIRS), [choose(bars, fold, [pair]) for pair in PAIRS]
    assert chosen in alone
    assert chosen.sharpe == max(choice.sharpe for choice in alone)
    assert math.isfinite(chosen.sharpe)


def test_the_first_of_equal_combinations_is_chosen_and_an_undefined_ratio_counts_as_0() -> None:
    flat = np.full(400, 100.0)
    bars = dataclasses.replace(random_bars(400), open=flat, high=flat, low=flat, close=flat)
    (fold,) = plan_folds(400, folds=1, train_bars=300)
    chosen = choose(bars, fold, PAIRS)
    assert (chosen.parameters, chosen.sharpe) == (PAIRS[0], 0)


def test_a_choice_does_not_depend_on_the_bars_to_be_traded() -> None:
    bars, changed = random_bars(400), random_bars(400)
    changed.close[300:] = 1 / changed.close[300:]
    (fold,) = plan_folds(400, folds=1, train_bars=300)
    assert choose(bars, fold, PAIRS) == choose(changed, fold, PAIRS)


def test_each_fold_uses_its_own_choice() -> None:
    bars = random_bars(500)
    target_weights = target_weights_on(bars)
    folds = plan_folds(500, folds=3, train_bars=200)
    choices = [ParameterChoice(pair, 0.0) for pair in PAIRS[:3]]
    whole = out_of_sample_weights(folds, choices, target_weights)
    assert len(whole) == 300
    for fold, choice in zip(folds, choices, strict=True):
        part = slice(fold.test_start - 200, fold.test_end - 200)
        alone = target_weights.compute(choice.parameters)[fold.test_start : fold.test_end]
        np.testing.assert_array_equal(whole[part], alone)
