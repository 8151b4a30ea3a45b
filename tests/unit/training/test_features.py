"""The default features are what they were, by name; samples begin and end where they must."""

from __future__ import annotations

import dataclasses
import math
import statistics
from pathlib import Path

import numpy as np
import pytest

from ktrdr.strategies.catalogue import load_feature_set
from ktrdr.strategies.document import Component
from ktrdr.training.features import feature_table, make_samples
from tests.unit.backtesting.bars import random_bars

FEATURES = load_feature_set("default", Path("/nonexistent")).features
BAR = 150
LONGEST = 50


def row_of(bars, at: int) -> dict[str, float]:
    return dict(zip(FEATURES, feature_table(bars, FEATURES)[at].tolist(), strict=True))


def test_the_default_features_follow_their_names() -> None:
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


def test_bars_that_do_not_move_still_make_samples() -> None:
    flat = np.full(120, 50.0)
    bars = dataclasses.replace(
        random_bars(120), open=flat, high=flat, low=flat, close=flat, volume=0 * flat
    )
    row = row_of(bars, -1)
    assert (row["rsi"], row["place_in_range"], row["volume_z"]) == (50, 0.5, 0)
    assert len(make_samples(bars, 5, FEATURES)) > 0


@pytest.mark.parametrize("horizon", [1, 7])
def test_samples_begin_with_a_whole_past_and_end_before_the_last_label(horizon: int) -> None:
    samples = make_samples(random_bars(200), horizon, FEATURES)
    assert samples.index[0] == LONGEST - 1
    assert samples.index[-1] == 199 - horizon
    assert np.isfinite(samples.features).all()
    assert samples.features.shape == (len(samples), len(samples.names))


def test_a_horizon_beyond_the_bars_leaves_no_samples() -> None:
    assert len(make_samples(random_bars(60), 250, FEATURES)) == 0


def test_features_can_be_those_of_ones_own_strategy() -> None:
    own = {"gap": Component("close_to_average", (("window", 3),))}
    samples = make_samples(random_bars(60), 1, own)
    assert samples.names == ("gap",)
    assert samples.index[0] == 2


@pytest.mark.parametrize("bar", [60, 120, 180])
def test_whatever_happens_after_a_bar_leaves_its_features_as_they_were(bar: int) -> None:
    bars = random_bars(200)
    cut = {
        name: getattr(bars, name)[: bar + 1] for name in ("open", "high", "low", "close", "volume")
    }
    known = dataclasses.replace(bars, times=bars.times[: bar + 1], **cut)
    np.testing.assert_array_equal(
        feature_table(known, FEATURES), feature_table(bars, FEATURES)[: bar + 1]
    )
