"""Reads the bars of a dataset between two times without reading the rest.

Imported by the child process only. The binary file is a copy of the CSV file for speed, never the
truth: what does not look like it is not used.
"""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ktrdr.marketdata.store import RECORD
from ktrdr.schemas.data import Dataset

COLUMNS: Final = ("open", "high", "low", "close", "volume")
_TYPE: Final = np.dtype([("time", "<i8"), *((name, "<f8") for name in COLUMNS)])

Records = NDArray[Any]
"""One record a bar: ``time`` in seconds since 1970, and COLUMNS."""


def read_records(
    path: Path, dataset: Dataset, start: int | None, end: int | None
) -> Records | None:
    """The bars from ``start`` up to and without ``end``; None if the file is not to be trusted.

    The places where they begin and end are found by halving, twenty reads of one bar in a million.
    """
    try:
        with path.open("rb", buffering=0) as file:
            if not _fits(file, dataset):
                return None
            first = 0 if start is None else _first_at(file, dataset.bars, start)
            beyond = dataset.bars if end is None else _first_at(file, dataset.bars, end)
            file.seek(first * RECORD.size)
            found: Records = np.fromfile(file, _TYPE, max(beyond - first, 0))
    except OSError:
        # Gone with the file that it belonged to, perhaps.
        return None
    return found if len(found) == max(beyond - first, 0) else None


def _fits(file: FileIO, dataset: Dataset) -> bool:
    """Whether a file has a dataset's length and ends."""
    if file.seek(0, os.SEEK_END) != dataset.bars * RECORD.size:
        return False
    first, last = _time_at(file, 0), _time_at(file, dataset.bars - 1)
    return first == dataset.first.timestamp() and last == dataset.last.timestamp()


def _first_at(file: FileIO, bars: int, time: int) -> int:
    """The index of the first bar that is not before ``time``."""
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
