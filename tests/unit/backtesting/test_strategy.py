"""Averages of past closes, and what is held because of them one close later."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.backtesting.strategy import cross_targets, moving_average
from ktrdr.marketdata.bars import Floats

closes = st.lists(st.floats(1, 1000), min_size=1, max_size=60).map(np.array)
windows = st.integers(1, 30)


@given(closes, windows)
def test_an_average_is_the_mean_of_the_last_closes_and_nothing_before_there_are_enough(
    values: Floats, window: int
) -> None:
    found = moving_average(values, window)
    for t in range(len(values)):
        if t < window - 1:
            assert math.isnan(found[t])
        else:
            expected = math.fsum(values[t - window + 1 : t + 1]) / window
            assert math.isclose(found[t], expected, rel_tol=1e-9)


@given(closes, windows, windows, st.data())
def test_what_is_held_at_a_close_was_decided_before_it(
    values: Floats, fast: int, slow: int, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(values) - 1))
    changed = values.copy()
    changed[cut:] *= 1 + np.arange(len(values) - cut)
    np.testing.assert_array_equal(
        cross_targets(values, fast, slow)[: cut + 1], cross_targets(changed, fast, slow)[: cut + 1]
    )


def test_a_cross_at_one_close_is_traded_at_the_next() -> None:
    values = np.array([10.0, 10, 10, 20, 20, 5, 5])
    # The average of two closes is above that of three at closes 3 and 4, and below from 5 on.
    np.testing.assert_array_equal(cross_targets(values, 2, 3), [0, 0, 0, 0, 1, 1, 0])


def test_nothing_is_held_while_the_slow_average_has_too_few_closes() -> None:
    assert not cross_targets(np.linspace(1, 2, 20), 2, 30).any()


def test_a_steady_rise_is_held_from_the_close_after_both_averages_exist() -> None:
    targets = cross_targets(np.linspace(1, 2, 50), 5, 20)
    np.testing.assert_array_equal(targets, [0.0] * 20 + [1.0] * 30)
