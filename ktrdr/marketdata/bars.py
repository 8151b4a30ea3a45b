"""Bars as arrays, for the numerical rooms; imported by the child process only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ktrdr.errors import HostNotReady, InvalidParameters
from ktrdr.marketdata.catalogue import dataset_path, suggest
from ktrdr.marketdata.records import COLUMNS, read_records
from ktrdr.marketdata.store import (
    BINARY,
    companion,
    hash_of,
    history_by_hash,
    history_of,
    stamp_of,
)
from ktrdr.marketdata.timeframe import bars_per_year
from ktrdr.schemas.data import Dataset

Floats = NDArray[np.float64]

# As pandas reads what canonical files say.
_TIMES: Final = "datetime64[us]"


@dataclass(frozen=True)
class Bars:
    """A dataset, or a part of it.

    Attributes:
        times: Each bar's time, UTC.
        open: Prices in the quote currency, as are high, low and close.
        volume: Units traded.
        data_hash: SHA-256 of the whole file the bars come from, whatever part of it they are.
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
    def bars_per_year(self) -> float:
        """How many bars make a year, for annualising."""
        return bars_per_year(self.timeframe)


def read_bars(
    root: Path, symbol: str, timeframe: str, start: date | None = None, end: date | None = None
) -> Bars:
    """Reads a dataset, or the part from ``start`` up to and without ``end``.

    Of an imported file only that part is read. One that was put there or changed by hand is read
    and checked whole, and its hash is computed anew.

    Raises:
        InvalidParameters: There is no such dataset, it is damaged, or it has no bars between the
            dates.
        HostNotReady: It is there, but cannot be read.
    """
    path = dataset_path(root, symbol, timeframe)
    try:
        with path.open("rb") as file:
            found = _read(path, file, start, end)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise InvalidParameters(
            f"there is no data for {symbol} {timeframe}", hint=suggest(root, symbol)
        ) from None
    except OSError as exc:
        raise HostNotReady(
            f"{path} cannot be read ({exc.strerror})", hint="Check the shared directory."
        ) from exc
    if not len(found.times):
        raise InvalidParameters(
            f"{symbol} {timeframe} has no bars between the dates that were asked for",
            hint=f"It covers {found.first:%Y-%m-%d} to {found.last:%Y-%m-%d}.",
        )
    columns = {name: found.values[name] for name in COLUMNS}
    return Bars(
        symbol=symbol,
        timeframe=timeframe,
        times=found.times,
        data_hash=found.data_hash,
        **columns,
    )


@dataclass(frozen=True)
class _Part:
    """The bars that were asked for, and what the whole dataset covers."""

    times: pd.DatetimeIndex
    values: dict[str, Floats]
    data_hash: str
    first: datetime
    last: datetime


def _read(path: Path, file: BufferedReader, start: date | None, end: date | None) -> _Part:
    stamp = stamp_of(os.fstat(file.fileno()))
    history, data_hash = history_of(path, stamp), None
    if history is None:
        # It was never imported, or copied since, or changed: its content tells which.
        data_hash = hash_of(file)
        stamp, history = history_by_hash(path, data_hash) or (stamp, None)
    if history is not None and (dataset := history.report.dataset) is not None:
        binary = companion(path, stamp, BINARY)
        found = _from_records(binary, dataset, _seconds(start), _seconds(end))
        if found is not None:
            return found
        data_hash = dataset.data_hash
    return _from_csv(path, file, data_hash or hash_of(file), start, end)


def _from_records(path: Path, dataset: Dataset, start: int | None, end: int | None) -> _Part | None:
    records = read_records(path, dataset, start, end)
    if records is None:
        return None
    values = {name: np.ascontiguousarray(records[name]) for name in COLUMNS}
    times = np.ascontiguousarray(records["time"])
    if len(times) and _fault_of(times, values):
        return None
    return _Part(
        times=pd.DatetimeIndex(times.astype("datetime64[s]").astype(_TIMES), tz="UTC"),
        values=values,
        data_hash=dataset.data_hash,
        first=dataset.first,
        last=dataset.last,
    )


def _from_csv(
    path: Path, file: BinaryIO, data_hash: str, start: date | None, end: date | None
) -> _Part:
    file.seek(0)
    frame = whole = _frame(path, file)
    if start is not None:
        frame = frame[frame.index >= pd.Timestamp(start, tz="UTC")]
    if end is not None:
        frame = frame[frame.index < pd.Timestamp(end, tz="UTC")]
    return _Part(
        times=pd.DatetimeIndex(frame.index),
        values={name: frame[name].to_numpy() for name in COLUMNS},
        data_hash=data_hash,
        first=whole.index[0],
        last=whole.index[-1],
    )


def _frame(path: Path, file: BinaryIO) -> pd.DataFrame:
    """A dataset's file. Imports are checked row by row; this is for what was put there by hand."""
    try:
        frame = pd.read_csv(file, index_col="timestamp", dtype=dict.fromkeys(COLUMNS, np.float64))
        frame.index = pd.DatetimeIndex(pd.to_datetime(frame.index, utc=True)).as_unit("us")
        missing = [name for name in COLUMNS if name not in frame.columns]
        fault = f"it lacks {', '.join(missing)}" if missing else _fault_of_frame(frame)
    except (ValueError, KeyError, OverflowError) as exc:
        fault = str(exc).strip().partition("\n")[0] or type(exc).__name__
    if fault:
        raise InvalidParameters(
            f"the dataset {path.parent.name} {path.stem} is damaged: {fault}",
            hint="Bring it in with `ktrdr data import`, which says what is wrong in which line.",
        )
    return frame


def _fault_of_frame(frame: pd.DataFrame) -> str | None:
    if frame.empty:
        return "it has no bars"
    if frame.index.hasnans:
        return "it holds bars without a time"
    return _fault_of(frame.index.asi8, {name: frame[name].to_numpy() for name in COLUMNS})


def _fault_of(times: NDArray[np.int64], values: Mapping[str, Floats]) -> str | None:
    opened, high, low, close = (values[name] for name in COLUMNS[:4])
    if not all(np.isfinite(each).all() for each in values.values()) or any(
        (each <= 0).any() for each in (opened, high, low, close)
    ):
        return "it holds prices that are no positive numbers"
    if (low > np.minimum(opened, close)).any() or (high < np.maximum(opened, close)).any():
        return "it holds bars whose high and low do not enclose open and close"
    if (values["volume"] < 0).any():
        return "it holds volumes that are negative"
    if not (np.diff(times) > 0).all():
        return "its bars are not in the order of their times"
    return None


def _seconds(day: date | None) -> int | None:
    return None if day is None else int(datetime.combine(day, time(), tzinfo=UTC).timestamp())
