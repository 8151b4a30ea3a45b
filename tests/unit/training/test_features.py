"""Each feature is what its name says, computed here a second time from its definition."""

from __future__ import annotations

import dataclasses
import statistics

import numpy as np
import pytest

from ktrdr.training.features import AVERAGES, LAGS, feature_table, make_samples
from tests.unit.backtesting.bars import random_bars

BAR = 150


def test_returns_and_averages_follow_their_definition() -> None:
    bars = random_bars(200)
    row, close = feature_table(bars).iloc[BAR], bars.close
    for lag in LAGS:
        assert row[f"return_{lag}"] == pytest.approx(close[BAR] / close[BAR - lag] - 1, rel=1e-9)
    for n in AVERAGES:
        average = statistics.fmean(close[BAR - n + 1 : BAR + 1])
        assert row[f"close_to_average_{n}"] == pytest.approx(close[BAR] / average - 1, rel=1e-9)


def test_volatility_strength_range_and_volume_follow_theirs() -> None:
    bars = random_bars(200)
    row = feature_table(bars).iloc[BAR]
    changes = np.diff(bars.close)[BAR - 14 : BAR]
    gains, losses = changes[changes > 0].sum(), -changes[changes < 0].sum()
    assert row["rsi"] == pytest.approx(100 * gains / (gains + losses), rel=1e-9)
    logs = np.diff(np.log(bars.close))[BAR - 20 : BAR]
    assert row["volatility_20"] == pytest.approx(statistics.stdev(logs.tolist()), rel=1e-9)
    span = bars.high[BAR] - bars.low[BAR]
    assert row["range"] == pytest.approx(span / bars.close[BAR], rel=1e-9)
    place = (bars.close[BAR] - bars.low[BAR]) / span
    assert row["place_in_range"] == pytest.approx(place, rel=1e-9)
    volumes = bars.volume[BAR - 19 : BAR + 1].tolist()
    z = (volumes[-1] - statistics.fmean(volumes)) / statistics.stdev(volumes)
    assert row["volume_z"] == pytest.approx(z, rel=1e-9)


def test_bars_that_do_not_move_have_neutral_features_and_not_none() -> None:
    flat = np.full(120, 50.0)
    bars = dataclasses.replace(
        random_bars(120), open=flat, high=flat, low=flat, close=flat, volume=0 * flat
    )
    row = feature_table(bars).iloc[-1]
    assert (row["rsi"], row["place_in_range"], row["volume_z"]) == (50, 0.5, 0)
    assert len(make_samples(bars, 5)) > 0


@pytest.mark.parametrize("horizon", [1, 7])
def test_samples_begin_with_a_whole_past_and_end_before_the_last_label(horizon: int) -> None:
    samples = make_samples(random_bars(200), horizon)
    assert samples.index[0] == max(AVERAGES) - 1
    assert samples.index[-1] == 199 - horizon
    assert np.isfinite(samples.features).all()
    assert samples.features.shape == (len(samples), len(samples.names))


@pytest.mark.parametrize("bar", [60, 120, 180])
def test_whatever_happens_after_a_bar_leaves_its_features_as_they_were(bar: int) -> None:
    bars = random_bars(200)
    cut = {
        name: getattr(bars, name)[: bar + 1] for name in ("open", "high", "low", "close", "volume")
    }
    known = dataclasses.replace(bars, times=bars.times[: bar + 1], **cut)
    np.testing.assert_array_equal(feature_table(known).iloc[-1], feature_table(bars).iloc[bar])
