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
@given(st.integers(600, 2000), st.floats(0.2, 0.4), st.floats(0.3, 0.5), st.integers(1, 30))
def test_every_sample_is_used_once_but_those_whose_label_looks_into_the_next_part(
    count: int, validation: float, test: float, horizon: int
) -> None:
    given_samples = samples(count)
    split = split_in_time(
        given_samples, validation_fraction=validation, test_fraction=test, horizon=horizon
    )
    assert len(split.test) == round(count * test)
    assert (split.train[0], split.test[-1]) == (0, count - 1)
    labels_end = given_samples.index + horizon
    for part, later in ((split.train, split.validation), (split.validation, split.test)):
        gap = np.arange(part[-1] + 1, later[0])
        first = given_samples.index[later[0]]
        assert (np.diff(part) == 1).all()
        assert (labels_end[part] < first).all()
        assert (labels_end[gap] >= first).all()
        assert len(gap) == horizon


def test_exactly_enough_samples_are_enough_and_one_fewer_is_not() -> None:
    # 50 of each part, and two gaps of the horizon's 5 bars.
    enough = 3 * MIN_SAMPLES + 2 * 5

    def split(count: int):
        return split_in_time(
            samples(count),
            validation_fraction=MIN_SAMPLES / (count - MIN_SAMPLES - 5),
            test_fraction=MIN_SAMPLES / count,
            horizon=5,
        )

    found = split(enough)
    assert [len(part) for part in (found.train, found.validation, found.test)] == [MIN_SAMPLES] * 3
    with pytest.raises(InvalidParameters, match="49 training, 50 validation and 50 test samples"):
        split(enough - 1)


def test_parts_that_would_be_empty_are_too_few() -> None:
    with pytest.raises(InvalidParameters, match="0 test samples are too few"):
        split_in_time(samples(500), validation_fraction=0.2, test_fraction=1e-9, horizon=5)
    with pytest.raises(InvalidParameters, match="0 training, 0 validation and 0 test"):
        split_in_time(samples(0), validation_fraction=0.2, test_fraction=0.2, horizon=5)
