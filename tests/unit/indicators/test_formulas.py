"""Indicators agree with formulas written independently here, and never depend on the future."""

from __future__ import annotations

import dataclasses
import inspect
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.indicators.formulas import FORMULAS, compute_indicator
from ktrdr.marketdata.bars import Bars
from ktrdr.strategies.component_kinds import INDICATORS
from tests.unit.backtesting.bars import random_bars
from tests.unit.strategies.random_documents import templates

BARS = random_bars(120)
H, L, C, V = (column.tolist() for column in (BARS.high, BARS.low, BARS.close, BARS.volume))
N = 7


def wilder(values: list[float], weight: float) -> list[float]:
    """Return Wilder's average, beginning with the mean of the first N values."""
    averages = [math.fsum(values[:N]) / N]
    for value in values[N:]:
        averages.append(averages[-1] + (value - averages[-1]) * weight)
    return averages


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
def test_indicators_agree_with_their_formulas_at_all_bars(kind: str) -> None:
    arguments, first, formula = EXPECTED[kind]
    values = FORMULAS[kind](BARS, *arguments)
    assert np.isnan(values[:first]).all()
    expected = [formula(t) for t in range(first, len(BARS))]
    np.testing.assert_allclose(values[first:], expected, rtol=1e-9, atol=1e-12)


def test_the_declared_kinds_match_the_formulas_and_their_arguments() -> None:
    assert set(INDICATORS) - {"model"} == set(FORMULAS)
    for kind, formula in FORMULAS.items():
        parameters = list(inspect.signature(formula).parameters)[1:]
        arguments = [argument.name for argument in INDICATORS[kind].arguments]
        assert parameters == arguments, kind
        assert formula.__doc__


def test_the_relative_strength_index_agrees_with_a_published_example() -> None:
    closes = np.array(
        [
            *(44.34, 44.09, 44.15, 43.61, 44.33, 44.83, 45.10, 45.42, 45.84, 46.08),
            *(45.89, 46.03, 45.61, 46.28, 46.28, 46.00, 46.03, 46.41, 46.22, 45.64),
        ]
    )
    bars = dataclasses.replace(random_bars(len(closes)), close=closes)
    values = compute_indicator(bars, "rsi", {"window": 14})
    np.testing.assert_allclose(values[14:], [70.46, 66.25, 66.48, 69.35, 66.29, 57.92], atol=0.011)


def test_constant_bars_have_neutral_values() -> None:
    flat = np.full(60, 50.0)
    bars = dataclasses.replace(
        random_bars(60), open=flat, high=flat, low=flat, close=flat, volume=0 * flat
    )
    neutral = {"rsi": 50, "rsi_simple": 50, "place_in_range": 0.5, "volume_z": 0, "sma": 50}
    neutral |= {"ema": 0, "atr": 0, "volatility": 0, "deviation": 0, "range": 0}
    for kind, value in neutral.items():
        assert FORMULAS[kind](bars, *EXPECTED[kind][0])[-1] == value, kind


@pytest.mark.parametrize("kind", FORMULAS)
def test_a_window_longer_than_the_bars_gives_unknown_values(kind: str) -> None:
    arguments = EXPECTED[kind][0]
    if arguments:
        values = FORMULAS[kind](random_bars(5), *(50, *arguments[1:]))
        assert np.isnan(values).all()
        assert len(values) == 5


def cut(bars: Bars, end: int) -> Bars:
    columns = {
        name: getattr(bars, name)[:end] for name in ("open", "high", "low", "close", "volume")
    }
    return dataclasses.replace(bars, times=bars.times[:end], **columns)


@settings(deadline=None)
@given(templates(), st.integers(1, 79), st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_later_bars_do_not_change_an_indicator(
    template, end: int, seed: int, factor: float
) -> None:
    bars, changed = random_bars(80, seed), random_bars(80, seed)
    for column in (changed.open, changed.high, changed.low, changed.close, changed.volume):
        column[end:] *= factor
    arguments = dict(template.with_values({}).arguments)
    whole, other, known = (
        compute_indicator(each, template.kind, arguments)
        for each in (bars, changed, cut(bars, end))
    )
    np.testing.assert_array_equal(whole[:end], known)
    np.testing.assert_array_equal(other[:end], known)
