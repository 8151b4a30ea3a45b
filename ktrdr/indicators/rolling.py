"""Figures of the last bars, moved along: each entry knows its own bar and those before it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ktrdr.marketdata.bars import Floats


def mean(values: Floats, window: int) -> Floats:
    """The mean of the last ``window`` values; NaN while there are fewer."""
    return _floats(pd.Series(values).rolling(window).mean())


def deviation(values: Floats, window: int) -> Floats:
    """Their standard deviation, with n - 1."""
    return _floats(pd.Series(values).rolling(window).std())


def highest(values: Floats, window: int) -> Floats:
    """The highest of them."""
    return _floats(pd.Series(values).rolling(window).max())


def lowest(values: Floats, window: int) -> Floats:
    """The lowest of them."""
    return _floats(pd.Series(values).rolling(window).min())


def smoothed(values: Floats, window: int, weight: float) -> Floats:
    """An exponential average: s_t = s_{t-1} + weight * (x_t - s_{t-1}).

    It begins with the mean of the first ``window`` values that are known; NaN before.
    """
    result = np.full(len(values), np.nan)
    first = int(np.argmax(~np.isnan(values))) if not np.isnan(values).all() else len(values)
    start = first + window
    if start <= len(values):
        seeded = np.concatenate(([np.mean(values[first:start])], values[start:]))
        result[start - 1 :] = _floats(pd.Series(seeded).ewm(alpha=weight, adjust=False).mean())
    return result


def before(values: Floats, bars: int = 1) -> Floats:
    """The values as they were some bars earlier; NaN where there was none."""
    shifted = np.full(len(values), np.nan)
    shifted[bars:] = values[:-bars] if bars < len(values) else values[:0]
    return shifted


def _floats(series: pd.Series) -> Floats:
    found: Floats = series.to_numpy(dtype=np.float64)
    return found
