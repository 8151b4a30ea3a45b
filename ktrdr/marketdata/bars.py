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
from ktrdr.marketdata.timeframe import bars_a_year

Floats = NDArray[np.float64]

_COLUMNS: Final = ("open", "high", "low", "close", "volume")


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
        return bars_a_year(self.timeframe)


def read_bars(
    root: Path, symbol: str, timeframe: str, start: date | None = None, end: date | None = None
) -> Bars:
    """Reads a dataset, or the part from ``start`` up to and without ``end``.

    Raises:
        InvalidParameters: There is no such dataset, it is damaged, or it has no bars between the
            dates.
    """
    path = dataset_path(root, symbol, timeframe)
    if not path.is_file():
        raise InvalidParameters(
            f"there is no data for {symbol} {timeframe}", hint=_others(root, symbol)
        )
    frame = whole = _frame(path)
    if start is not None:
        frame = frame[frame.index >= pd.Timestamp(start, tz="UTC")]
    if end is not None:
        frame = frame[frame.index < pd.Timestamp(end, tz="UTC")]
    if frame.empty:
        raise InvalidParameters(
            f"{symbol} {timeframe} has no bars between the dates that were asked for",
            hint=f"It covers {whole.index[0]:%Y-%m-%d} to {whole.index[-1]:%Y-%m-%d}.",
        )
    columns = {name: frame[name].to_numpy() for name in _COLUMNS}
    return Bars(
        symbol=symbol,
        timeframe=timeframe,
        times=pd.DatetimeIndex(frame.index),
        data_hash=hashlib.sha256(path.read_bytes()).hexdigest(),
        **columns,
    )


def _frame(path: Path) -> pd.DataFrame:
    """A dataset's file. Imports are checked row by row; this is for what was put there by hand."""
    try:
        frame = pd.read_csv(path, index_col="timestamp", dtype=dict.fromkeys(_COLUMNS, np.float64))
        frame.index = pd.to_datetime(frame.index, utc=True)
        fault = _fault_of(frame)
    except (ValueError, KeyError, OverflowError) as exc:
        fault = str(exc).strip().partition("\n")[0] or type(exc).__name__
    if fault:
        raise InvalidParameters(
            f"the dataset {path.parent.name} {path.stem} is damaged: {fault}",
            hint="Bring it in with `ktrdr data import`, which says what is wrong in which line.",
        )
    return frame


def _fault_of(frame: pd.DataFrame) -> str | None:
    missing = [name for name in _COLUMNS if name not in frame.columns]
    if missing:
        return f"it lacks {', '.join(missing)}"
    if frame.empty:
        return "it has no bars"
    values = frame[list(_COLUMNS)].to_numpy()
    prices = values[:, :4]
    if not np.isfinite(values).all() or (prices <= 0).any():
        return "it holds prices that are no positive numbers"
    low, high = prices[:, 2], prices[:, 1]
    if (low > prices.min(axis=1)).any() or (high < prices.max(axis=1)).any():
        return "it holds bars whose high and low do not enclose open and close"
    if not (frame.index.is_monotonic_increasing and frame.index.is_unique):
        return "its bars are not in the order of their times"
    return None


def _others(root: Path, symbol: str) -> str:
    known = [f"{each.symbol} {each.timeframe}" for each in list_datasets(root)]
    if not known:
        return "Bring some in with `ktrdr data import`."
    near = difflib.get_close_matches(symbol, [name.split()[0] for name in known], n=1)
    question = f"Did you mean {near[0]}? " if near else ""
    return f"{question}There is {', '.join(known)}."
