"""Samples for training: features, labels, and their split in time.

A feature at bar t depends on bars up to t, and the label on bars after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ktrdr.errors import InvalidParameters
from ktrdr.indicators.formulas import compute_indicator
from ktrdr.marketdata.bars import Bars, Floats
from ktrdr.strategies.document import Component

MIN_SAMPLES: Final = 50

Indexes = NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """Features and labels of bars.

    Attributes:
        features: Array with one row a sample and one column a feature.
        labels: 1 if the close ``horizon`` bars later is higher, else 0.
        bar_indexes: Index of each sample's bar.
        names: Names of the features.
    """

    features: Floats
    labels: NDArray[np.int64]
    bar_indexes: Indexes
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Split:
    """Indexes of the samples of each part, in the order of time.

    Attributes:
        train: Samples that the model learns from.
        validation: Samples that decide when to stop.
        test: Samples that evaluate the final model, once.
    """

    train: Indexes
    validation: Indexes
    test: Indexes


def compute_features(bars: Bars, features: Mapping[str, Component]) -> Floats:
    """Return an array with one row a bar and one column a feature; NaN where unknown."""
    return np.column_stack(
        [
            compute_indicator(bars, feature.kind, dict(feature.arguments))
            for feature in features.values()
        ]
    )


def build_samples(bars: Bars, horizon: int, features: Mapping[str, Component]) -> Samples:
    """Return samples of the bars for which all features and the label are known."""
    values = compute_features(bars, features)
    future = np.full(len(bars), np.nan)
    if horizon < len(bars):
        future[:-horizon] = bars.close[horizon:] / bars.close[:-horizon] - 1
    usable = np.flatnonzero(np.isfinite(values).all(axis=1) & ~np.isnan(future))
    return Samples(
        features=values[usable],
        labels=(future[usable] > 0).astype(np.int64),
        bar_indexes=usable,
        names=tuple(features),
    )


def split_in_time(
    samples: Samples, *, validation_fraction: float, test_fraction: float, horizon: int
) -> Split:
    """Split the test off the end of the samples, and the validation off the end of the rest.

    The label of a sample depends on ``horizon`` later bars. Samples whose labels depend on bars of
    the next part are omitted ("purged"). Source: M. López de Prado, "Advances in Financial Machine
    Learning", 2018, chapter 7.

    Args:
        samples: Samples in the order of time.
        validation_fraction: Validation samples, as a fraction of those before the test.
        test_fraction: Test samples, as a fraction of all.
        horizon: Number of later bars that a label depends on.

    Raises:
        InvalidParameters: A part has too few samples.
    """
    before_test, test = _split_end(samples, np.arange(len(samples)), test_fraction, horizon)
    train, validation = _split_end(samples, before_test, validation_fraction, horizon)
    if min(len(train), len(validation), len(test)) < MIN_SAMPLES:
        raise InvalidParameters(
            f"{len(train)} training, {len(validation)} validation and {len(test)} test samples are "
            "too few",
            hint=f"Use more data or other fractions: each part needs {MIN_SAMPLES} samples.",
        )
    return Split(train, validation, test)


def _split_end(
    samples: Samples, indexes: Indexes, fraction: float, horizon: int
) -> tuple[Indexes, Indexes]:
    """Return the samples whose labels end before the last ``fraction`` begins, and that part."""
    first = len(indexes) - round(len(indexes) * fraction)
    earlier, later = indexes[:first], indexes[first:]
    if not len(later):
        return indexes, later
    is_before = samples.bar_indexes[earlier] + horizon < samples.bar_indexes[later[0]]
    return earlier[is_before], later
