"""The moving-average cross: in the market while a fast average of closes is above a slow one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ktrdr.marketdata.bars import Floats

Positions = NDArray[np.float64]


def moving_average(closes: Floats, window: int) -> Floats:
    """The mean of the last ``window`` closes, the present one too; NaN while there are fewer."""
    sums = np.cumsum(np.insert(closes, 0, 0.0))
    averages = np.full(len(closes), np.nan)
    averages[window - 1 :] = (sums[window:] - sums[:-window]) / window
    return averages


def cross_targets(closes: Floats, fast: int, slow: int) -> Positions:
    """The share of capital to hold at each close: 1 or 0.

    The averages at close t decide what is held from close t+1 on: an order that is decided after
    one close is executed at the next. So entry t depends on closes up to t-1 alone.
    """
    with np.errstate(invalid="ignore"):
        signal = moving_average(closes, fast) > moving_average(closes, slow)
    return np.concatenate(([0.0], signal[:-1].astype(np.float64)))
