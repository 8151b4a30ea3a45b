"""Random walks as bars for tests, equal for equal seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ktrdr.marketdata.bars import Bars


def random_bars(count: int, seed: int = 1) -> Bars:
    generator = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(generator.normal(0.0002, 0.012, count)))
    spread = close * generator.uniform(0.001, 0.01, count)
    return Bars(
        symbol="TEST",
        timeframe="1d",
        times=pd.date_range("2001-01-01", periods=count, freq="D", tz="UTC"),
        open=close - spread / 3,
        high=close + spread,
        low=close - spread,
        close=close,
        volume=generator.uniform(1e5, 2e5, count),
        data_hash="test",
    )


def write_csv(bars: Bars, path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(
        {
            "open": bars.open,
            "high": bars.high,
            "low": bars.low,
            "close": bars.close,
            "volume": bars.volume,
        },
        index=bars.times.rename("timestamp"),
    )
    frame.to_csv(path, date_format="%Y-%m-%dT%H:%M:%SZ")
