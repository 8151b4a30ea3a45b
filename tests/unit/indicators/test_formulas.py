"""Each indicator is what its formula says, written out here a second time, and knows no future."""

from __future__ import annotations

import dataclasses
import inspect
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.indicators.formulas import FORMULAS, indicator
from ktrdr.marketdata.bars import Bars
from ktrdr.strategies.component_kinds import INDICATORS
from tests.unit.backtesting.bars import random_bars
from tests.unit.strategies.random_documents import templates

BARS = random_bars(120)
H, L, C, V = (each.tolist() for each in (BARS.high, BARS.low, BARS.close, BARS.volume))
N = 7


def wilder(values: list[float], weight: float) -> list[float]:
    """From the mean of the first N on."""
    found = [math.fsum(values[:N]) / N]
    for value in values[N:]:
        found.append(found[-1] + (value - found[-1]) * weight)
    return found


def strength(up: float, down: float) -> float:
    return 100 - 100 / (1 + up / down)


CHANGES = [C[t] - C[t - 1] for t in range(1, 120)]
UPS, DOWNS = [max(c, 0.0) for c in CHANGES], [max(-c, 0.0) for c in CHANGES]
LOGS = [math.log(C[t] / C[t - 1]) for t in range(1, 120)]
RANGES = [max(H[t] - L[t], abs(H[t] - C[t - 1]), abs(L[t] - C[t - 1])) for t in range(1, 120)]
# The arguments, the bar of the first value, and the value at bar t.
EXPECTED = {
    "sma": ((N, "close"), N - 1, lambda t: statistics.fmean(C[t - N + 1 : t + 1])),
    "ema": ((N, "volume"), N - 1, lambda t: wilder(V, 2 / (N + 1))[t - N + 1]),
    "deviation": ((N, "high"), N - 1, lambda t: statistics.stdev(H[t - N + 1 : t + 1])),
    "rsi": (
        (N,),
        N,
        lambda t: strength(wilder(UPS, 1 / N)[t - N], wilder(DOWNS, 1 / N)[t - N]),
    ),
    "rsi_simple": ((N,), N, lambda t: strength(sum(UPS[t - N : t]), sum(DOWNS[t - N : t]))),
    "donchian_high": ((N,), N, lambda t: max(H[t - N : t])),
    "donchian_low": ((N,), N, lambda t: min(L[t - N : t])),
    "atr": ((N,), N, lambda t: wilder(RANGES, 1 / N)[t - N]),
    "volatility": ((N,), N, lambda t: statistics.stdev(LOGS[t - N : t])),
    "return": ((N,), N, lambda t: C[t] / C[t - N] - 1),
    "close_to_average": ((N,), N - 1, lambda t: C[t] / statistics.fmean(C[t - N + 1 : t + 1]) - 1),
    "range": ((), 0, lambda t: (H[t] - L[t]) / C[t]),
    "place_in_range": ((), 0, lambda t: (C[t] - L[t]) / (H[t] - L[t])),
    "volume_z": (
        (N,),
        N - 1,
        lambda t: (
            (V[t] - statistics.fmean(V[t - N + 1 : t + 1])) / statistics.stdev(V[t - N + 1 : t + 1])
        ),
    ),
}


@pytest.mark.parametrize("kind", FORMULAS)
def test_an_indicator_is_its_formula_at_every_bar_from_the_first_that_has_one(kind: str) -> None:
    arguments, first, formula = EXPECTED[kind]
    found = FORMULAS[kind](BARS, *arguments)
    assert np.isnan(found[:first]).all()
    expected = [formula(t) for t in range(first, len(BARS))]
    np.testing.assert_allclose(found[first:], expected, rtol=1e-9, atol=1e-12)


def test_the_catalogue_names_what_there_is_with_the_arguments_it_takes() -> None:
    assert set(INDICATORS) - {"model"} == set(FORMULAS)
    for kind, formula in FORMULAS.items():
        taken = list(inspect.signature(formula).parameters)[1:]
        named = [argument.name for argument in INDICATORS[kind].arguments]
        assert taken == named, kind
        assert formula.__doc__


def test_the_worked_example_of_the_strength_index_that_chart_makers_publish_is_met() -> None:
    closes = np.array(
        [
            *(44.34, 44.09, 44.15, 43.61, 44.33, 44.83, 45.10, 45.42, 45.84, 46.08),
            *(45.89, 46.03, 45.61, 46.28, 46.28, 46.00, 46.03, 46.41, 46.22, 45.64),
        ]
    )
    bars = dataclasses.replace(random_bars(len(closes)), close=closes)
    found = indicator(bars, "rsi", {"window": 14})
    np.testing.assert_allclose(found[14:], [70.46, 66.25, 66.48, 69.35, 66.29, 57.92], atol=0.011)


def test_bars_that_do_not_move_have_neutral_figures_and_not_none() -> None:
    flat = np.full(60, 50.0)
    bars = dataclasses.replace(
        random_bars(60), open=flat, high=flat, low=flat, close=flat, volume=0 * flat
    )
    neutral = {"rsi": 50, "rsi_simple": 50, "place_in_range": 0.5, "volume_z": 0, "sma": 50}
    neutral |= {"ema": 0, "atr": 0, "volatility": 0, "deviation": 0, "range": 0}
    for kind, value in neutral.items():
        assert FORMULAS[kind](bars, *EXPECTED[kind][0])[-1] == value, kind


@pytest.mark.parametrize("kind", FORMULAS)
def test_a_window_longer_than_the_bars_knows_nothing_and_does_not_fail(kind: str) -> None:
    arguments = EXPECTED[kind][0]
    if arguments:
        found = FORMULAS[kind](random_bars(5), *(50, *arguments[1:]))
        assert np.isnan(found).all()
        assert len(found) == 5


def cut(bars: Bars, end: int) -> Bars:
    columns = {
        name: getattr(bars, name)[:end] for name in ("open", "high", "low", "close", "volume")
    }
    return dataclasses.replace(bars, times=bars.times[:end], **columns)


@settings(max_examples=120, deadline=None)
@given(templates(), st.integers(1, 79), st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_nothing_that_happens_after_a_bar_changes_an_indicator_up_to_it(
    template, end: int, seed: int, factor: float
) -> None:
    bars, changed = random_bars(80, seed), random_bars(80, seed)
    for column in (changed.open, changed.high, changed.low, changed.close, changed.volume):
        column[end:] *= factor
    arguments = dict(template.with_values({}).arguments)
    whole, other, known = (
        indicator(each, template.kind, arguments) for each in (bars, changed, cut(bars, end))
    )
    np.testing.assert_array_equal(whole[:end], known)
    np.testing.assert_array_equal(other[:end], known)
