"""Target weights follow rules and sizing, stay within bounds, and never depend on the future."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktrdr.backtesting.indicator_cache import IndicatorCache
from ktrdr.backtesting.target_weights import TargetWeights, apply_rules
from ktrdr.marketdata.bars import Bars
from ktrdr.strategies.catalogue import load_strategy
from ktrdr.strategies.document_file import read_strategy
from ktrdr.strategies.grid import list_combinations
from tests.unit.backtesting.bars import random_bars
from tests.unit.strategies.random_documents import strategies

NAN = math.nan
NOWHERE = Path("/nonexistent")


def weights_of(strategy, bars: Bars, combination=None):
    return TargetWeights(strategy, IndicatorCache(bars, {})).compute(combination or {})


def document(entry: str, exit_: str, more: str = ""):
    return read_strategy(f"name: x\nentry: {entry}\nexit: {exit_}\n{more}", "x.yml")


def booleans(text: str) -> list[bool]:
    return [character == "x" for character in text]


@pytest.mark.parametrize(
    ("entries", "exits", "held"),
    [
        ("....", "....", "...."),
        (".x..", "....", ".xxx"),
        (".x..", "...x", ".xx."),
        ("xxxx", "xxxx", "x.x."),
        (".x.x", "..x.", ".x.x"),
        ("..x.", "xx..", "..xx"),
        ("xxxx", ".x..", "x.xx"),
    ],
)
def test_a_position_is_entered_when_none_is_held_and_left_when_one_is(entries, exits, held) -> None:
    weights = apply_rules(booleans(entries), booleans(exits), [1.0] * 4, 0.0)
    assert (weights > 0).tolist() == booleans(held)


def test_a_weight_changes_when_the_desired_size_leaves_the_band() -> None:
    sizes = [NAN, 0.5, 0.58, 0.65, NAN, 0.60, 0.54]
    weights = apply_rules([True] * 7, [False] * 7, sizes, 0.1)
    np.testing.assert_array_equal(weights, [0, 0.5, 0.5, 0.65, 0.65, 0.65, 0.54])


def test_a_decision_at_a_close_is_held_from_the_next() -> None:
    bars = random_bars(50)
    weights = weights_of(document("close > open * 1.001", "close < open"), bars)
    rises = bars.close > bars.open * 1.001
    assert weights[0] == 0
    first = int(np.argmax(rises))
    assert not weights[: first + 1].any()
    assert weights[first + 1] == 1


def test_the_cross_is_in_the_market_while_the_fast_average_is_above_the_slow_one() -> None:
    bars = random_bars(300)
    weights = weights_of(
        load_strategy("moving_average_cross", NOWHERE), bars, {"fast": 5, "slow": 20}
    )
    for t in range(1, 300):
        past = bars.close[:t]
        expected = t >= 20 and math.fsum(past[-5:]) / 5 > math.fsum(past[-20:]) / 20
        assert weights[t] == expected, t


def test_buying_and_holding_holds_from_the_second_bar_on() -> None:
    assert weights_of(load_strategy("buy_and_hold", NOWHERE), random_bars(5)).tolist() == [
        0,
        1,
        1,
        1,
        1,
    ]


def test_reversion_buys_weakness_and_sells_strength() -> None:
    strategy, bars = load_strategy("rsi_reversion", NOWHERE), random_bars(400)
    indicators = IndicatorCache(bars, {})
    values = {"window": 5, "oversold": 30.0, "recovered": 60.0}
    weights = TargetWeights(strategy, indicators).compute(values)
    strength = indicators.values(strategy.indicators["strength"].with_values(values))
    for t in np.flatnonzero(np.diff(weights) > 0):
        assert strength[t] < 30
    sales = np.flatnonzero(np.diff(weights) < 0)
    assert len(sales) > 3
    assert (strength[sales] > 60).all()


def test_a_breakout_buys_above_the_previous_highs_and_scales_to_its_volatility() -> None:
    strategy, bars = load_strategy("donchian_breakout", NOWHERE), random_bars(400)
    weights = weights_of(strategy, bars, {"breakout": 20, "stop": 10})
    bought = [t for t in range(1, 400) if weights[t] > 0 and weights[t - 1] == 0]
    assert len(bought) > 3
    for t in bought:
        assert bars.close[t - 1] > bars.high[t - 21 : t - 1].max()
        logs = np.diff(np.log(bars.close[t - 21 : t]))
        assert weights[t] == pytest.approx(min(1, 0.15 / (logs.std(ddof=1) * math.sqrt(252))))


def test_a_constant_price_is_held_at_the_maximum_of_a_volatility_target() -> None:
    flat = np.full(40, 10.0)
    bars = dataclasses.replace(random_bars(40), close=flat, high=flat, low=flat, open=flat)
    sizing = "sizing: {volatility_target: {annual: 0.1, maximum: 0.8}}\n"
    assert weights_of(document("always", "never", sizing), bars)[-1] == 0.8


@pytest.mark.parametrize("name", ["moving_average_cross", "rsi_reversion", "donchian_breakout"])
def test_cached_weights_equal_computed_weights(name: str) -> None:
    strategy, bars = load_strategy(name, NOWHERE), random_bars(300)
    target_weights = TargetWeights(strategy, IndicatorCache(bars, {}))
    for combination in list_combinations(strategy, {})[:3]:
        first = target_weights.compute(combination)
        np.testing.assert_array_equal(target_weights.compute(combination), first)
        np.testing.assert_array_equal(weights_of(strategy, bars, combination), first)


def changed_after(bars: Bars, end: int, factor: float) -> Bars:
    columns = {}
    for name in ("open", "high", "low", "close", "volume"):
        columns[name] = getattr(bars, name).copy()
        columns[name][end:] *= factor
    return dataclasses.replace(bars, **columns)


def cut(bars: Bars, end: int) -> Bars:
    columns = {
        name: getattr(bars, name)[:end] for name in ("open", "high", "low", "close", "volume")
    }
    return dataclasses.replace(bars, times=bars.times[:end], **columns)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(strategies(), st.integers(2, 89), st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_no_strategy_depends_on_the_future(strategy, end: int, seed: int, factor: float) -> None:
    bars = random_bars(90, seed)
    whole = weights_of(strategy, bars)
    other = weights_of(strategy, changed_after(bars, end, factor))
    # The target at bar `end` was decided at the close before it, the last that both know.
    np.testing.assert_array_equal(whole[: end + 1], other[: end + 1])
    np.testing.assert_array_equal(whole[:end], weights_of(strategy, cut(bars, end)))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(strategies(), st.integers(0, 2**32 - 1))
def test_no_strategy_borrows_or_sells_short(strategy, seed: int) -> None:
    weights = weights_of(strategy, random_bars(90, seed))
    maximum = dict(strategy.sizing.arguments).get("maximum", 1.0)
    assert np.isfinite(weights).all()
    assert (weights >= 0).all()
    assert (weights <= maximum).all()


@pytest.mark.parametrize("name", ["moving_average_cross", "rsi_reversion", "donchian_breakout"])
@pytest.mark.parametrize("end", [120, 250, 379])
def test_no_built_in_strategy_depends_on_the_future_with_any_parameters(name, end) -> None:
    strategy, bars = load_strategy(name, NOWHERE), random_bars(380, end)
    before = TargetWeights(strategy, IndicatorCache(bars, {}))
    after = TargetWeights(strategy, IndicatorCache(changed_after(bars, end, 0.5), {}))
    for combination in list_combinations(strategy, {}):
        one, other = before.compute(combination), after.compute(combination)
        np.testing.assert_array_equal(one[: end + 1], other[: end + 1])


def test_a_strategy_that_looks_ahead_is_detected() -> None:
    bars = random_bars(90)
    peeking = dataclasses.replace(bars, volume=np.roll(bars.close, -1))
    strategy = document("volume > close", "volume < close")
    later = changed_after(bars, 50, 0.5)
    peeking_later = dataclasses.replace(later, volume=np.roll(later.close, -1))
    weights, other = weights_of(strategy, peeking), weights_of(strategy, peeking_later)
    assert not np.array_equal(weights[:51], other[:51])
