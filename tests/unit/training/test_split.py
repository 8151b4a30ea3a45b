"""The test comes after the training, with a gap that no label crosses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.errors import InvalidParameters
from ktrdr.training.features import Samples
from ktrdr.training.split import MIN_SAMPLES, split_in_time


def samples(count: int) -> Samples:
    return Samples(
        np.zeros((count, 1)), np.zeros(count, dtype=np.int64), np.arange(count) + 49, ("x",)
    )


@settings(max_examples=50)
@given(st.integers(200, 2000), st.floats(0.3, 0.5), st.integers(1, 30))
def test_every_sample_is_used_once_but_those_whose_label_crosses(
    count: int, fraction: float, horizon: int
) -> None:
    given_samples = samples(count)
    split = split_in_time(given_samples, test_fraction=fraction, horizon=horizon)
    assert len(split.test) == round(count * fraction)
    assert split.test[-1] == count - 1
    gap = np.arange(split.train[-1] + 1, split.test[0])
    assert len(split.train) + len(gap) + len(split.test) == count
    labels_end = given_samples.index + horizon
    first_tested = given_samples.index[split.test[0]]
    assert (labels_end[split.train] < first_tested).all()
    assert (labels_end[gap] >= first_tested).all()


def test_exactly_enough_samples_are_enough_and_one_fewer_is_not() -> None:
    enough = MIN_SAMPLES + 5 + MIN_SAMPLES
    split = split_in_time(samples(enough), test_fraction=MIN_SAMPLES / enough, horizon=5)
    assert (len(split.train), len(split.test)) == (MIN_SAMPLES, MIN_SAMPLES)
    with pytest.raises(InvalidParameters, match="49 training and 50 test samples are too few"):
        split_in_time(samples(enough - 1), test_fraction=MIN_SAMPLES / (enough - 1), horizon=5)
