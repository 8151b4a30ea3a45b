"""A split in time: the model learns from the past and is judged on what came after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ktrdr.errors import InvalidParameters
from ktrdr.training.features import Samples

MIN_SAMPLES = 50


@dataclass(frozen=True)
class Split:
    """Positions among the samples of what is learnt from and what is judged on."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]


def split_in_time(samples: Samples, *, test_fraction: float, horizon: int) -> Split:
    """The last ``test_fraction`` of the samples are the test; the rest, less a gap, the training.

    The label of a sample looks ``horizon`` bars ahead. Training samples that look into the test's
    bars are left out ("purged"; M. López de Prado, "Advances in Financial Machine Learning", 2018,
    chapter 7).

    Raises:
        InvalidParameters: Too few samples are left on either side.
    """
    first_test = len(samples) - round(len(samples) * test_fraction)
    if first_test >= len(samples):
        raise InvalidParameters("the test would be empty", hint="Raise test_fraction.")
    boundary = samples.index[first_test]
    train = np.flatnonzero(samples.index + horizon < boundary)
    test = np.arange(first_test, len(samples))
    if min(len(train), len(test)) < MIN_SAMPLES:
        raise InvalidParameters(
            f"{len(train)} training and {len(test)} test samples are too few",
            hint=f"Each side needs {MIN_SAMPLES}: take more data or another test_fraction.",
        )
    return Split(train, test)
