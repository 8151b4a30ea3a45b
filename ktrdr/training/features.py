"""Features and labels. A feature at bar t depends on bars up to t, the label on bars after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ktrdr.marketdata.bars import Bars, Floats

LAGS: Final = (1, 2, 3, 5, 10, 20)
AVERAGES: Final = (5, 10, 20, 50)
VOLATILITY_WINDOWS: Final = (5, 20)
RSI_WINDOW: Final = 14
VOLUME_WINDOW: Final = 20


@dataclass(frozen=True)
class Samples:
    """What there is to learn from.

    Attributes:
        features: One row a bar, one column a feature.
        labels: 1 where the close ``horizon`` bars later is higher, else 0.
        index: Each row's position among the bars.
        names: The columns' names.
    """

    features: Floats
    labels: NDArray[np.int64]
    index: NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


def feature_table(bars: Bars) -> pd.DataFrame:
    """All features of all bars; NaN where the past is too short.

    Returns over several lags, closes relative to their averages, rolling volatility, the relative
    strength index (Wilder, 1978, with simple averages), the bar's range, the place of the close in
    it, and the volume's z-score.
    """
    close, volume = pd.Series(bars.close), pd.Series(bars.volume)
    log_return = np.log(close).diff()
    columns = {f"return_{lag}": close.pct_change(lag) for lag in LAGS}
    columns |= {f"close_to_average_{n}": close / close.rolling(n).mean() - 1 for n in AVERAGES}
    columns |= {f"volatility_{n}": log_return.rolling(n).std() for n in VOLATILITY_WINDOWS}
    columns["rsi"] = _rsi(close)
    span = pd.Series(bars.high - bars.low)
    columns["range"] = span / close
    # A bar without a range has its close in the middle of it.
    columns["place_in_range"] = ((close - bars.low) / span.where(span > 0)).fillna(0.5)
    mean, deviation = volume.rolling(VOLUME_WINDOW).mean(), volume.rolling(VOLUME_WINDOW).std()
    columns["volume_z"] = ((volume - mean) / deviation.where(deviation > 0)).where(
        deviation.isna() | (deviation > 0), 0.0
    )
    return pd.DataFrame(columns)


def make_samples(bars: Bars, horizon: int) -> Samples:
    """The bars whose past is long enough for every feature and whose future holds a label."""
    table = feature_table(bars)
    future = np.full(len(bars), np.nan)
    future[:-horizon] = bars.close[horizon:] / bars.close[:-horizon] - 1
    usable = np.flatnonzero(table.notna().all(axis=1).to_numpy() & ~np.isnan(future))
    return Samples(
        features=table.to_numpy(dtype=np.float64)[usable],
        labels=(future[usable] > 0).astype(np.int64),
        index=usable,
        names=tuple(table.columns),
    )


def _rsi(close: pd.Series) -> pd.Series:
    change = close.diff()
    gain = change.clip(lower=0).rolling(RSI_WINDOW).mean()
    loss = (-change.clip(upper=0)).rolling(RSI_WINDOW).mean()
    moved = gain + loss
    # Where nothing moved, neither side is stronger.
    return (100 * gain / moved.where(moved > 0)).where(moved.isna() | (moved > 0), 50.0)
