"""Bars as arrays, for the numerical rooms; imported by the child process only."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ktrdr.errors import InvalidParameters
from ktrdr.marketdata.catalogue import dataset_path, list_datasets

Floats = NDArray[np.float64]

# Trading days of 6.5 hours and 252 of them a year, the convention of US equities.
BARS_A_YEAR: Final = {"1d": 252.0, "1h": 252 * 6.5, "30m": 252 * 13.0, "15m": 252 * 26.0}
BARS_A_YEAR_BY_MINUTE: Final = 252 * 390.0


@dataclass(frozen=True)
class Bars:
    """A dataset, or a part of it.

    Attributes:
        times: Each bar's time, UTC.
        open: Prices in the quote currency, as are high, low and close.
        volume: Units traded.
        data_hash: SHA-256 of the whole file the bars come from.
    """

    symbol: str
    timeframe: str
    times: pd.DatetimeIndex
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    data_hash: str

    def __len__(self) -> int:
        return len(self.close)

    @property
    def bars_a_year(self) -> float:
        """How many bars make a year, for annualising."""
        return BARS_A_YEAR.get(self.timeframe, BARS_A_YEAR_BY_MINUTE)


def read_bars(
    root: Path, symbol: str, timeframe: str, start: date | None = None, end: date | None = None
) -> Bars:
    """Reads a dataset, or the part from ``start`` up to and without ``end``.

    Raises:
        InvalidParameters: There is no such dataset, or no bars between the dates.
    """
    path = dataset_path(root, symbol, timeframe)
    if not path.is_file():
        raise InvalidParameters(
            f"there is no data for {symbol} {timeframe}", hint=_others(root, symbol)
        )
    frame = pd.read_csv(path, parse_dates=["timestamp"], index_col="timestamp")
    whole = frame
    if start is not None:
        frame = frame[frame.index >= pd.Timestamp(start, tz="UTC")]
    if end is not None:
        frame = frame[frame.index < pd.Timestamp(end, tz="UTC")]
    if frame.empty:
        raise InvalidParameters(
            f"{symbol} {timeframe} has no bars between the dates that were asked for",
            hint=f"It covers {whole.index[0]:%Y-%m-%d} to {whole.index[-1]:%Y-%m-%d}.",
        )
    columns = {name: frame[name].to_numpy(dtype=np.float64) for name in frame.columns}
    return Bars(
        symbol=symbol,
        timeframe=timeframe,
        times=pd.DatetimeIndex(frame.index),
        data_hash=hashlib.sha256(path.read_bytes()).hexdigest(),
        **columns,
    )


def _others(root: Path, symbol: str) -> str:
    known = [f"{each.symbol} {each.timeframe}" for each in list_datasets(root)]
    if not known:
        return "Bring some in with `ktrdr data import`."
    near = difflib.get_close_matches(symbol, [name.split()[0] for name in known], n=1)
    question = f"Did you mean {near[0]}? " if near else ""
    return f"{question}There is {', '.join(known)}."
