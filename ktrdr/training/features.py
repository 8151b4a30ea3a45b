"""Features and labels. A feature at bar t depends on bars up to t, the label on bars after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ktrdr.indicators.table import table
from ktrdr.marketdata.bars import Bars, Floats
from ktrdr.strategies.document import Component


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


def feature_table(bars: Bars, features: Mapping[str, Component]) -> Floats:
    """All features of all bars, a column each; NaN where the past is too short."""
    return table(bars, [(each.kind, dict(each.arguments)) for each in features.values()])


def make_samples(bars: Bars, horizon: int, features: Mapping[str, Component]) -> Samples:
    """The bars whose past is long enough for every feature and whose future holds a label."""
    found = feature_table(bars, features)
    future = np.full(len(bars), np.nan)
    if horizon < len(bars):
        future[:-horizon] = bars.close[horizon:] / bars.close[:-horizon] - 1
    usable = np.flatnonzero(np.isfinite(found).all(axis=1) & ~np.isnan(future))
    return Samples(
        features=found[usable],
        labels=(future[usable] > 0).astype(np.int64),
        index=usable,
        names=tuple(features),
    )
