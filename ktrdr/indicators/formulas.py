"""The indicators, each with its formula and source.

Notation: O, H, L, C and V are a bar's open, high, low, close and volume; t is the present bar, n
the window. An indicator at t depends on bars up to t, and is NaN while there are too few of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from ktrdr.indicators import rolling
from ktrdr.marketdata.bars import Bars, Floats


def sma(bars: Bars, /, window: int, of: str) -> Floats:
    """Simple moving average: mean(x_{t-n+1} … x_t).

    Source: P. J. Kaufman, "Trading Systems and Methods", 6th ed., 2019.
    """
    return rolling.mean(_column(bars, of), window)


def ema(bars: Bars, /, window: int, of: str) -> Floats:
    """Exponential moving average: e_t = e_{t-1} + 2 / (n + 1) * (x_t - e_{t-1}).

    It begins with the mean of the first n values. Source: Kaufman, as for `sma`.
    """
    return rolling.smoothed(_column(bars, of), window, 2 / (window + 1))


def deviation(bars: Bars, /, window: int, of: str) -> Floats:
    """Standard deviation: std(x_{t-n+1} … x_t), with n - 1."""
    return rolling.deviation(_column(bars, of), window)


def rsi(bars: Bars, /, window: int) -> Floats:
    """Relative strength index: 100 * U / (U + D); 50 where nothing moved.

    U and D are averages of the rises and of the falls of the close, both positive, with Wilder's
    smoothing: a_t = a_{t-1} + (x_t - a_{t-1}) / n, begun with the mean of the first n changes.
    Source: J. W. Wilder, "New Concepts in Technical Trading Systems", 1978, section VI.
    """
    up, down = _moves(bars)
    return _strength(
        rolling.smoothed(up, window, 1 / window), rolling.smoothed(down, window, 1 / window)
    )


def rsi_simple(bars: Bars, /, window: int) -> Floats:
    """Relative strength index with simple averages of the last n changes.

    It knows n + 1 closes and no more. Source: D. Cutler's variant of Wilder's index.
    """
    up, down = _moves(bars)
    return _strength(rolling.mean(up, window), rolling.mean(down, window))


def donchian_high(bars: Bars, /, window: int) -> Floats:
    """Upper Donchian channel: max(H_{t-n} … H_{t-1}), without the present bar.

    Source: R. D. Donchian's rule of four weeks; Kaufman, as for `sma`.
    """
    return rolling.before(rolling.highest(bars.high, window))


def donchian_low(bars: Bars, /, window: int) -> Floats:
    """Lower Donchian channel: min(L_{t-n} … L_{t-1}), without the present bar."""
    return rolling.before(rolling.lowest(bars.low, window))


def atr(bars: Bars, /, window: int) -> Floats:
    """Average true range, with Wilder's smoothing of max(H, C_{t-1}) - min(L, C_{t-1}).

    Source: Wilder, as for `rsi`, section III.
    """
    close_before = rolling.before(bars.close)
    top, bottom = np.maximum(bars.high, close_before), np.minimum(bars.low, close_before)
    return rolling.smoothed(top - bottom, window, 1 / window)


def volatility(bars: Bars, /, window: int) -> Floats:
    """Of one bar, not of a year: std(ln C_i / C_{i-1}), with n - 1, over the last n bars.

    Source: J. C. Hull, "Options, Futures, and Other Derivatives", 11th ed., 2021, chapter 15.4.
    """
    return rolling.deviation(_log_returns(bars), window)


def returned(on: Bars, /, bars: int) -> Floats:
    """C_t / C_{t-n} - 1."""
    return on.close / rolling.before(on.close, bars) - 1


def close_to_average(bars: Bars, /, window: int) -> Floats:
    """C_t / mean(C_{t-n+1} … C_t) - 1."""
    return bars.close / rolling.mean(bars.close, window) - 1


def bar_range(bars: Bars) -> Floats:
    """(H_t - L_t) / C_t."""
    return (bars.high - bars.low) / bars.close


def place_in_range(bars: Bars) -> Floats:
    """(C_t - L_t) / (H_t - L_t); 0.5 for a bar without a range."""
    span = bars.high - bars.low
    return _divided(bars.close - bars.low, span, otherwise=0.5)


def volume_z(bars: Bars, /, window: int) -> Floats:
    """(V_t - mean) / std of the last n volumes, with n - 1; 0 where they are all the same."""
    distance = bars.volume - rolling.mean(bars.volume, window)
    return _divided(distance, rolling.deviation(bars.volume, window), otherwise=0.0)


FORMULAS: Final[Mapping[str, Callable[..., Floats]]] = {
    "sma": sma,
    "ema": ema,
    "deviation": deviation,
    "rsi": rsi,
    "rsi_simple": rsi_simple,
    "donchian_high": donchian_high,
    "donchian_low": donchian_low,
    "atr": atr,
    "volatility": volatility,
    "return": returned,
    "close_to_average": close_to_average,
    "range": bar_range,
    "place_in_range": place_in_range,
    "volume_z": volume_z,
}


def indicator(bars: Bars, kind: str, arguments: Mapping[str, Any]) -> Floats:
    """The indicator of a kind, at each bar."""
    return FORMULAS[kind](bars, **arguments)


def _column(bars: Bars, of: str) -> Floats:
    found: Floats = getattr(bars, of)
    return found


def _log_returns(bars: Bars) -> Floats:
    return np.log(bars.close) - rolling.before(np.log(bars.close))


def _moves(bars: Bars) -> tuple[Floats, Floats]:
    """Rises and falls of the close, both positive; the first bar has neither."""
    change = bars.close - rolling.before(bars.close)
    return np.maximum(change, 0.0), np.maximum(-change, 0.0)


def _strength(up: Floats, down: Floats) -> Floats:
    return _divided(100 * up, up + down, otherwise=50.0)


def _divided(above: Floats, below: Floats, *, otherwise: float) -> Floats:
    """A quotient; ``otherwise`` where it would divide by nothing, NaN where either is unknown."""
    safe = np.where(below > 0, below, 1.0)
    known = np.where(np.isnan(below) | np.isnan(above), np.nan, otherwise)
    return np.where(below > 0, above / safe, known)
