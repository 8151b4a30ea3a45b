"""Bars as arrays, read from a dataset. Only the child process imports this module."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ktrdr.errors import HostNotReady, InvalidParameters
from ktrdr.marketdata.catalogue import dataset_path, suggest_datasets
from ktrdr.marketdata.store import (
    BINARY,
    RECORD,
    companion_path,
    file_stamp,
    find_provenance,
    read_provenance,
)
from ktrdr.marketdata.timeframe import bars_per_year
from ktrdr.schemas.data import Dataset
from ktrdr.work import DatasetMissing

Floats = NDArray[np.float64]

COLUMNS: Final = ("open", "high", "low", "close", "volume")
_RECORD_TYPE: Final = np.dtype([("time", "<i8"), *((name, "<f8") for name in COLUMNS)])
# Type of the times that pandas reads from CSV files.
_TIME_TYPE: Final = "datetime64[us]"


@dataclass(frozen=True)
class Bars:
    """The bars of a dataset, or of a range of it.

    Attributes:
        times: Times of the bars, UTC.
        open: Opening prices in the quote currency.
        volume: Units traded.
        data_hash: SHA-256 of the whole file, also for a range.
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
        """Number of bars in a year, for annualising."""
        return bars_per_year(self.timeframe)


def read_bars(
    root: Path, symbol: str, timeframe: str, start: date | None = None, end: date | None = None
) -> Bars:
    """Return the bars of a dataset, or those from ``start`` until before ``end``.

    Of an imported file, only the range is read. A file that was added or changed by hand is read,
    validated and hashed completely.

    Raises:
        InvalidParameters: The dataset does not exist or is damaged, or the range has no bars.
        HostNotReady: The dataset exists and cannot be read.
    """
    path = dataset_path(root, symbol, timeframe)
    try:
        with path.open("rb") as file:
            content = _read_range(path, file, start, end)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise DatasetMissing(
            f"there is no data for {symbol} {timeframe}", hint=suggest_datasets(root, symbol)
        ) from None
    except OSError as exc:
        raise HostNotReady(
            f"{path} cannot be read ({exc.strerror})", hint="Check the shared directory."
        ) from exc
    if not len(content.times):
        raise InvalidParameters(
            f"{symbol} {timeframe} has no bars between the requested dates",
            hint=f"It covers {content.first:%Y-%m-%d} to {content.last:%Y-%m-%d}.",
        )
    return Bars(
        symbol=symbol,
        timeframe=timeframe,
        times=content.times,
        data_hash=content.data_hash,
        **content.columns,
    )


@dataclass(frozen=True)
class _Content:
    """The requested bars, with first and last time of the whole dataset."""

    times: pd.DatetimeIndex
    columns: dict[str, Floats]
    data_hash: str
    first: datetime
    last: datetime


def _read_range(path: Path, file: BufferedReader, start: date | None, end: date | None) -> _Content:
    stamp, data_hash = file_stamp(os.fstat(file.fileno())), None
    provenance = read_provenance(path, stamp)
    if provenance is None:
        # The file was never imported, or was copied or changed since. Its hash tells which.
        data_hash = _hash_file(file)
        stamp, provenance = find_provenance(path, data_hash) or (stamp, None)
    if provenance is not None and (dataset := provenance.report.dataset) is not None:
        binary = companion_path(path, stamp, BINARY)
        content = _read_binary(binary, dataset, _seconds(start), _seconds(end))
        if content is not None:
            return content
        data_hash = dataset.data_hash
    return _read_csv(path, file, data_hash or _hash_file(file), start, end)


def _hash_file(file: BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _seconds(day: date | None) -> int | None:
    return None if day is None else int(datetime.combine(day, time(), tzinfo=UTC).timestamp())


def _read_binary(
    path: Path, dataset: Dataset, start: int | None, end: int | None
) -> _Content | None:
    """Read a range of the binary copy; return None if the copy does not match the dataset."""
    records = _read_records(path, dataset, start, end)
    if records is None:
        return None
    columns = {name: np.ascontiguousarray(records[name]) for name in COLUMNS}
    times = np.ascontiguousarray(records["time"])
    if len(times) and _find_damage(times, columns):
        return None
    return _Content(
        times=pd.DatetimeIndex(times.astype("datetime64[s]").astype(_TIME_TYPE), tz="UTC"),
        columns=columns,
        data_hash=dataset.data_hash,
        first=dataset.first,
        last=dataset.last,
    )


def _read_records(
    path: Path, dataset: Dataset, start: int | None, end: int | None
) -> NDArray[Any] | None:
    """Return the records of a range, located by bisection: about 20 reads for a million bars."""
    try:
        with path.open("rb", buffering=0) as file:
            if file.seek(0, os.SEEK_END) != dataset.bars * RECORD.size:
                return None
            first_time, last_time = _time_at(file, 0), _time_at(file, dataset.bars - 1)
            if first_time != dataset.first.timestamp() or last_time != dataset.last.timestamp():
                return None
            first = 0 if start is None else _bisect(file, dataset.bars, start)
            stop = dataset.bars if end is None else _bisect(file, dataset.bars, end)
            file.seek(first * RECORD.size)
            records: NDArray[Any] = np.fromfile(file, _RECORD_TYPE, max(stop - first, 0))
    except OSError:
        # The copy may have been removed together with its CSV file.
        return None
    return records if len(records) == max(stop - first, 0) else None


def _bisect(file: FileIO, bars: int, time: int) -> int:
    """Return the index of the first bar at or after ``time``."""
    low, high = 0, bars
    while low < high:
        middle = (low + high) // 2
        if _time_at(file, middle) < time:
            low = middle + 1
        else:
            high = middle
    return low


def _time_at(file: FileIO, index: int) -> int:
    file.seek(index * RECORD.size)
    return int(RECORD.unpack(file.read(RECORD.size))[0])


def _read_csv(
    path: Path, file: BinaryIO, data_hash: str, start: date | None, end: date | None
) -> _Content:
    file.seek(0)
    frame = whole = _read_frame(path, file)
    if start is not None:
        frame = frame[frame.index >= pd.Timestamp(start, tz="UTC")]
    if end is not None:
        frame = frame[frame.index < pd.Timestamp(end, tz="UTC")]
    return _Content(
        times=pd.DatetimeIndex(frame.index),
        columns={name: frame[name].to_numpy() for name in COLUMNS},
        data_hash=data_hash,
        first=whole.index[0],
        last=whole.index[-1],
    )


def _read_frame(path: Path, file: BinaryIO) -> pd.DataFrame:
    """Read and validate a whole CSV file, which may have been added by hand."""
    try:
        frame = pd.read_csv(file, index_col="timestamp", dtype=dict.fromkeys(COLUMNS, np.float64))
        frame.index = pd.DatetimeIndex(pd.to_datetime(frame.index, utc=True)).as_unit("us")
        damage = _find_frame_damage(frame)
    except (ValueError, KeyError, OverflowError) as exc:
        damage = str(exc).strip().partition("\n")[0] or type(exc).__name__
    if damage:
        raise InvalidParameters(
            f"the dataset {path.parent.name} {path.stem} is damaged: {damage}",
            hint="Import the file with `ktrdr data import`, which lists each fault with its line.",
        )
    return frame


def _find_frame_damage(frame: pd.DataFrame) -> str | None:
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        return f"it lacks {', '.join(missing)}"
    if frame.empty:
        return "it has no bars"
    if frame.index.hasnans:
        return "it has bars without a time"
    return _find_damage(frame.index.asi8, {name: frame[name].to_numpy() for name in COLUMNS})


def _find_damage(times: NDArray[np.int64], columns: Mapping[str, Floats]) -> str | None:
    first, high, low, last = prices = [columns[name] for name in COLUMNS[:4]]
    is_finite = all(np.isfinite(column).all() for column in columns.values())
    if not is_finite or any((price <= 0).any() for price in prices):
        return "it has prices that are not positive numbers"
    if (low > np.minimum(first, last)).any() or (high < np.maximum(first, last)).any():
        return "it has bars whose high and low do not enclose open and close"
    if (columns["volume"] < 0).any():
        return "it has negative volumes"
    if not (np.diff(times) > 0).all():
        return "its bars are not in the order of their times"
    return None
