"""Rolling statistics. The value at a bar depends on that bar and earlier bars only."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ktrdr.marketdata.bars import Floats


def mean(values: Floats, window: int) -> Floats:
    """Return the mean of the last ``window`` values; NaN while there are fewer."""
    return _to_floats(pd.Series(values).rolling(window).mean())


def standard_deviation(values: Floats, window: int) -> Floats:
    """Return the standard deviation of the last ``window`` values, with n - 1."""
    return _to_floats(pd.Series(values).rolling(window).std())


def highest(values: Floats, window: int) -> Floats:
    """Return the highest of the last ``window`` values."""
    return _to_floats(pd.Series(values).rolling(window).max())


def lowest(values: Floats, window: int) -> Floats:
    """Return the lowest of the last ``window`` values."""
    return _to_floats(pd.Series(values).rolling(window).min())


def exponential_mean(values: Floats, window: int, weight: float) -> Floats:
    """Return an exponential average: s_t = s_{t-1} + weight * (x_t - s_{t-1}).

    The average begins with the mean of the first ``window`` known values, and is NaN before.
    """
    result = np.full(len(values), np.nan)
    first = int(np.argmax(~np.isnan(values))) if not np.isnan(values).all() else len(values)
    start = first + window
    if start <= len(values):
        seeded = np.concatenate(([np.mean(values[first:start])], values[start:]))
        result[start - 1 :] = _to_floats(pd.Series(seeded).ewm(alpha=weight, adjust=False).mean())
    return result


def lag(values: Floats, bars: int = 1) -> Floats:
    """Return the values as of some bars earlier; NaN for the first bars."""
    shifted = np.full(len(values), np.nan)
    shifted[bars:] = values[:-bars] if bars < len(values) else values[:0]
    return shifted


def _to_floats(series: pd.Series) -> Floats:
    floats: Floats = series.to_numpy(dtype=np.float64)
    return floats
