"""A split in time: the model learns from the past, is stopped and judged on what came after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ktrdr.errors import InvalidParameters
from ktrdr.training.features import Samples

MIN_SAMPLES: Final = 50

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Positions among the samples, in the order of time.

    Attributes:
        train: What is learnt from.
        validation: What says when to stop learning.
        test: What is judged on, once.
    """

    train: Positions
    validation: Positions
    test: Positions


def split_in_time(
    samples: Samples, *, validation_fraction: float, test_fraction: float, horizon: int
) -> Split:
    """Cuts the test off the end of the samples, and the validation off the end of the rest.

    The label of a sample looks ``horizon`` bars ahead. Samples that look into the bars of the part
    after theirs are left out ("purged"; M. López de Prado, "Advances in Financial Machine
    Learning", 2018, chapter 7).

    Args:
        samples: In the order of time.
        validation_fraction: Of those before the test.
        test_fraction: Of all.
        horizon: How far labels look ahead, in bars.

    Raises:
        InvalidParameters: Too few samples are left in one of the parts.
    """
    before_test, test = _cut(samples, np.arange(len(samples)), test_fraction, horizon)
    train, validation = _cut(samples, before_test, validation_fraction, horizon)
    if min(len(train), len(validation), len(test)) < MIN_SAMPLES:
        raise InvalidParameters(
            f"{len(train)} training, {len(validation)} validation and {len(test)} test samples are "
            "too few",
            hint=f"Each part needs {MIN_SAMPLES}: take more data, or other fractions.",
        )
    return Split(train, validation, test)


def _cut(
    samples: Samples, positions: Positions, fraction: float, horizon: int
) -> tuple[Positions, Positions]:
    """The positions whose labels end before the last ``fraction`` of them begins, and that part."""
    first = len(positions) - round(len(positions) * fraction)
    later = positions[first:]
    if not len(later):
        return positions, later
    earlier = positions[:first]
    return earlier[samples.index[earlier] + horizon < samples.index[later[0]]], later
