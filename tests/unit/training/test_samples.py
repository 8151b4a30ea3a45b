"""Features, labels and samples depend on the right bars, and the split keeps the parts apart."""

from __future__ import annotations

import dataclasses
import math
import statistics
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.errors import InvalidParameters
from ktrdr.strategies.catalogue import load_feature_set
from ktrdr.strategies.document import Component
from ktrdr.training.samples import (
    MIN_SAMPLES,
    Samples,
    build_samples,
    compute_features,
    split_in_time,
)
from tests.unit.backtesting.bars import random_bars

FEATURES = load_feature_set("default", Path("/nonexistent")).features
BAR = 150
LONGEST = 50


def row_of(bars, at: int) -> dict[str, float]:
    return dict(zip(FEATURES, compute_features(bars, FEATURES)[at].tolist(), strict=True))


def test_the_default_features_have_the_values_that_their_names_say() -> None:
    bars = random_bars(200)
    row, close = row_of(bars, BAR), bars.close
    expected = {f"return_{n}": close[BAR] / close[BAR - n] - 1 for n in (1, 2, 3, 5, 10, 20)}
    for n in (5, 10, 20, 50):
        average = statistics.fmean(close[BAR - n + 1 : BAR + 1])
        expected[f"close_to_average_{n}"] = close[BAR] / average - 1
    logs = np.diff(np.log(close))
    for n in (5, 20):
        expected[f"volatility_{n}"] = statistics.stdev(logs[BAR - n : BAR].tolist())
    changes = np.diff(close)[BAR - 14 : BAR]
    gains = math.fsum(changes[changes > 0])
    expected["rsi"] = 100 * gains / math.fsum(np.abs(changes))
    span = bars.high[BAR] - bars.low[BAR]
    expected["range"] = span / close[BAR]
    expected["place_in_range"] = (close[BAR] - bars.low[BAR]) / span
    volumes = bars.volume[BAR - 19 : BAR + 1].tolist()
    expected["volume_z"] = (volumes[-1] - statistics.fmean(volumes)) / statistics.stdev(volumes)
    assert list(row) == list(expected)
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-9), name


def test_constant_bars_give_samples() -> None:
    flat = np.full(120, 50.0)
    bars = dataclasses.replace(
        random_bars(120), open=flat, high=flat, low=flat, close=flat, volume=0 * flat
    )
    row = row_of(bars, -1)
    assert (row["rsi"], row["place_in_range"], row["volume_z"]) == (50, 0.5, 0)
    assert len(build_samples(bars, 5, FEATURES)) > 0


@pytest.mark.parametrize("horizon", [1, 7])
def test_samples_begin_with_all_features_and_end_with_the_last_label(horizon: int) -> None:
    samples = build_samples(random_bars(200), horizon, FEATURES)
    assert samples.bar_indexes[0] == LONGEST - 1
    assert samples.bar_indexes[-1] == 199 - horizon
    assert np.isfinite(samples.features).all()
    assert samples.features.shape == (len(samples), len(samples.names))


def test_a_horizon_beyond_the_bars_leaves_no_samples() -> None:
    assert len(build_samples(random_bars(60), 250, FEATURES)) == 0


def test_features_can_be_those_of_an_own_strategy() -> None:
    own = {"gap": Component("close_to_average", (("window", 3),))}
    samples = build_samples(random_bars(60), 1, own)
    assert samples.names == ("gap",)
    assert samples.bar_indexes[0] == 2


@pytest.mark.parametrize("bar", [60, 120, 180])
def test_later_bars_do_not_change_features(bar: int) -> None:
    bars = random_bars(200)
    cut = {
        name: getattr(bars, name)[: bar + 1] for name in ("open", "high", "low", "close", "volume")
    }
    known = dataclasses.replace(bars, times=bars.times[: bar + 1], **cut)
    np.testing.assert_array_equal(
        compute_features(known, FEATURES), compute_features(bars, FEATURES)[: bar + 1]
    )


def empty_samples(count: int) -> Samples:
    return Samples(
        np.zeros((count, 1)), np.zeros(count, dtype=np.int64), np.arange(count) + 49, ("x",)
    )


@settings(max_examples=50)
@given(st.integers(600, 2000), st.floats(0.2, 0.4), st.floats(0.3, 0.5), st.integers(1, 30))
def test_all_samples_are_used_once_except_those_whose_labels_depend_on_the_next_part(
    count: int, validation: float, test: float, horizon: int
) -> None:
    given_samples = empty_samples(count)
    split = split_in_time(
        given_samples, validation_fraction=validation, test_fraction=test, horizon=horizon
    )
    assert len(split.test) == round(count * test)
    assert (split.train[0], split.test[-1]) == (0, count - 1)
    labels_end = given_samples.bar_indexes + horizon
    for part, later in ((split.train, split.validation), (split.validation, split.test)):
        gap = np.arange(part[-1] + 1, later[0])
        first = given_samples.bar_indexes[later[0]]
        assert (np.diff(part) == 1).all()
        assert (labels_end[part] < first).all()
        assert (labels_end[gap] >= first).all()
        assert len(gap) == horizon


def test_one_sample_too_few_is_rejected() -> None:
    # 50 of each part, and two gaps of the horizon's 5 bars.
    enough = 3 * MIN_SAMPLES + 2 * 5

    def split(count: int):
        return split_in_time(
            empty_samples(count),
            validation_fraction=MIN_SAMPLES / (count - MIN_SAMPLES - 5),
            test_fraction=MIN_SAMPLES / count,
            horizon=5,
        )

    parts = split(enough)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [MIN_SAMPLES] * 3
    with pytest.raises(InvalidParameters, match="49 training, 50 validation and 50 test samples"):
        split(enough - 1)


def test_empty_parts_are_rejected() -> None:
    with pytest.raises(InvalidParameters, match="0 test samples are too few"):
        split_in_time(empty_samples(500), validation_fraction=0.2, test_fraction=1e-9, horizon=5)
    with pytest.raises(InvalidParameters, match="0 training, 0 validation and 0 test"):
        split_in_time(empty_samples(0), validation_fraction=0.2, test_fraction=0.2, horizon=5)
