"""Formulas of the indicators, with sources.

Notation: O, H, L, C and V are a bar's open, high, low, close and volume, t is the current bar, and
n the window. An indicator at t depends on bars up to t, and is NaN while there are too few bars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from ktrdr.indicators import rolling
from ktrdr.marketdata.bars import Bars, Floats


def sma(bars: Bars, /, window: int, of: str) -> Floats:
    """Return the simple moving average: mean(x_{t-n+1} … x_t).

    Source: P. J. Kaufman, "Trading Systems and Methods", 6th ed., 2019.
    """
    return rolling.mean(_column(bars, of), window)


def ema(bars: Bars, /, window: int, of: str) -> Floats:
    """Return the exponential moving average: e_t = e_{t-1} + 2 / (n + 1) * (x_t - e_{t-1}).

    The average begins with the mean of the first n values. Source: Kaufman, as for `sma`.
    """
    return rolling.exponential_mean(_column(bars, of), window, 2 / (window + 1))


def standard_deviation(bars: Bars, /, window: int, of: str) -> Floats:
    """Return the standard deviation: std(x_{t-n+1} … x_t), with n - 1."""
    return rolling.standard_deviation(_column(bars, of), window)


def rsi(bars: Bars, /, window: int) -> Floats:
    """Return the relative strength index: 100 * U / (U + D); 50 if the close never moved.

    U and D are averages of the rises and of the falls of the close, both positive, with Wilder's
    smoothing: a_t = a_{t-1} + (x_t - a_{t-1}) / n, which begins with the mean of the first n
    changes.
    Source: J. W. Wilder, "New Concepts in Technical Trading Systems", 1978, section VI.
    """
    up, down = _rises_and_falls(bars)
    return _strength(
        rolling.exponential_mean(up, window, 1 / window),
        rolling.exponential_mean(down, window, 1 / window),
    )


def rsi_simple(bars: Bars, /, window: int) -> Floats:
    """Return the relative strength index with simple averages of the last n changes.

    The value depends on n + 1 closes only. Source: D. Cutler's variant of Wilder's index.
    """
    up, down = _rises_and_falls(bars)
    return _strength(rolling.mean(up, window), rolling.mean(down, window))


def donchian_high(bars: Bars, /, window: int) -> Floats:
    """Return the upper Donchian channel: max(H_{t-n} … H_{t-1}), without the current bar.

    Source: R. D. Donchian's rule of four weeks; Kaufman, as for `sma`.
    """
    return rolling.lag(rolling.highest(bars.high, window))


def donchian_low(bars: Bars, /, window: int) -> Floats:
    """Return the lower Donchian channel: min(L_{t-n} … L_{t-1}), without the current bar."""
    return rolling.lag(rolling.lowest(bars.low, window))


def atr(bars: Bars, /, window: int) -> Floats:
    """Return the average true range: Wilder's smoothing of max(H, C_{t-1}) - min(L, C_{t-1}).

    Source: Wilder, as for `rsi`, section III.
    """
    previous_close = rolling.lag(bars.close)
    top, bottom = np.maximum(bars.high, previous_close), np.minimum(bars.low, previous_close)
    return rolling.exponential_mean(top - bottom, window, 1 / window)


def volatility(bars: Bars, /, window: int) -> Floats:
    """Return the volatility of one bar: std(ln C_i / C_{i-1}), with n - 1, over the last n bars.

    Source: J. C. Hull, "Options, Futures, and Other Derivatives", 11th ed., 2021, chapter 15.4.
    """
    logs = np.log(bars.close)
    return rolling.standard_deviation(logs - rolling.lag(logs), window)


def simple_return(data: Bars, /, bars: int) -> Floats:
    """Return C_t / C_{t-n} - 1."""
    return data.close / rolling.lag(data.close, bars) - 1


def close_to_average(bars: Bars, /, window: int) -> Floats:
    """Return C_t / mean(C_{t-n+1} … C_t) - 1."""
    return bars.close / rolling.mean(bars.close, window) - 1


def bar_range(bars: Bars) -> Floats:
    """Return (H_t - L_t) / C_t."""
    return (bars.high - bars.low) / bars.close


def position_in_range(bars: Bars) -> Floats:
    """Return (C_t - L_t) / (H_t - L_t); 0.5 for a bar without a range."""
    return _divide(bars.close - bars.low, bars.high - bars.low, if_zero=0.5)


def volume_z(bars: Bars, /, window: int) -> Floats:
    """Return (V_t - mean) / std of the last n volumes, with n - 1; 0 if they are all equal."""
    distance = bars.volume - rolling.mean(bars.volume, window)
    return _divide(distance, rolling.standard_deviation(bars.volume, window), if_zero=0.0)


FORMULAS: Final[Mapping[str, Callable[..., Floats]]] = {
    "sma": sma,
    "ema": ema,
    "deviation": standard_deviation,
    "rsi": rsi,
    "rsi_simple": rsi_simple,
    "donchian_high": donchian_high,
    "donchian_low": donchian_low,
    "atr": atr,
    "volatility": volatility,
    "return": simple_return,
    "close_to_average": close_to_average,
    "range": bar_range,
    "place_in_range": position_in_range,
    "volume_z": volume_z,
}


def compute_indicator(bars: Bars, kind: str, arguments: Mapping[str, Any]) -> Floats:
    """Return the values of an indicator, one for each bar."""
    return FORMULAS[kind](bars, **arguments)


def _column(bars: Bars, of: str) -> Floats:
    column: Floats = getattr(bars, of)
    return column


def _rises_and_falls(bars: Bars) -> tuple[Floats, Floats]:
    """Return rises and falls of the close, both positive; NaN for the first bar."""
    change = bars.close - rolling.lag(bars.close)
    return np.maximum(change, 0.0), np.maximum(-change, 0.0)


def _strength(up: Floats, down: Floats) -> Floats:
    return _divide(100 * up, up + down, if_zero=50.0)


def _divide(numerator: Floats, denominator: Floats, *, if_zero: float) -> Floats:
    """Divide; ``if_zero`` where the denominator is zero, NaN where either value is unknown."""
    safe = np.where(denominator > 0, denominator, 1.0)
    is_unknown = np.isnan(denominator) | np.isnan(numerator)
    default = np.where(is_unknown, np.nan, if_zero)
    return np.where(denominator > 0, numerator / safe, default)
