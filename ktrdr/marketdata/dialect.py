"""Dialect of a CSV file: its lines, its delimiter and its columns."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TextIO

from ktrdr.errors import UsageError
from ktrdr.schemas.data import Delimiter

DELIMITERS: Final = {
    Delimiter.COMMA: ",",
    Delimiter.SEMICOLON: ";",
    Delimiter.TAB: "\t",
    Delimiter.PIPE: "|",
}
PRICE_NAMES: Final = ("open", "high", "low", "close")
# The first of these names that the header contains is used. Columns "date" and "time" together
# are one time.
_TIME_NAMES: Final = ("timestamp", "datetime", "gmt time", "open time", "date", "time")
_VOLUME_NAMES: Final = ("volume", "vol", "tickvol")
# No row of bars is longer. A longer line is not a table and must not fill the memory.
_MAX_LINE: Final = 64 * 1024
# Limit for gzip files: a small one can contain a terabyte.
_MAX_CHARACTERS: Final = 8 * 1024**3


@dataclass(frozen=True, slots=True)
class ColumnIndexes:
    """Indexes of the columns. ``clock`` is a separate column with the time of day, or None."""

    time: int
    clock: int | None
    prices: tuple[int, int, int, int]
    volume: int | None


def read_lines(file: TextIO) -> Iterator[str]:
    """Yield the lines of a file.

    Raises:
        UsageError: A line or the whole file is longer than a table of bars can be.
    """
    number = total = 0
    while line := file.readline(_MAX_LINE):
        number += 1
        total += len(line)
        if len(line) == _MAX_LINE and not line.endswith("\n"):
            raise UsageError(
                f"line {number} is longer than {_MAX_LINE // 1024} KB",
                hint="Export the bars as a table with one bar per line.",
            )
        if total > _MAX_CHARACTERS:
            raise UsageError(
                f"the unpacked file is longer than {_MAX_CHARACTERS // 1024**3} GB",
                hint="Split it by timeframe or symbol.",
            )
        yield line


def read_header(line: str | None, delimiter: Delimiter | None) -> tuple[Delimiter, ColumnIndexes]:
    """Return the delimiter, detected if it is None, and the columns named by the first line.

    Raises:
        UsageError: The header is missing, lacks a column, or contains one twice.
    """
    if line is None:
        raise UsageError("the file is empty", hint="Import a CSV file with a header line.")
    line = line.lstrip("\ufeff")
    delimiter = delimiter or max(Delimiter, key=lambda choice: line.count(DELIMITERS[choice]))
    cells = next(csv.reader([line], delimiter=DELIMITERS[delimiter]), [])
    # Some programs write names such as <DATE> or Open_Time.
    names = [cell.strip().strip("<>").replace("_", " ").lower() for cell in cells]
    return delimiter, _find_columns(names)


def _find_columns(names: Sequence[str]) -> ColumnIndexes:
    time = next((name for name in _TIME_NAMES if name in names), None)
    volume = next((name for name in _VOLUME_NAMES if name in names), None)
    missing = [name for name in PRICE_NAMES if name not in names]
    if time is None:
        missing.insert(0, "timestamp, datetime, date or time")
    if missing or time is None:
        columns = ", ".join(filter(None, names))[:200] or "no columns"
        raise UsageError(
            f"the header lacks {', '.join(missing)}; it has {columns}",
            hint="Name the columns timestamp, open, high, low, close and volume.",
        )
    for name in (time, *PRICE_NAMES, volume):
        if name and names.count(name) > 1:
            raise UsageError(
                f"the header contains {name} twice", hint="Keep one column of each name."
            )
    first, high, low, close = (names.index(name) for name in PRICE_NAMES)
    return ColumnIndexes(
        time=names.index(time),
        clock=names.index("time") if time == "date" and "time" in names else None,
        prices=(first, high, low, close),
        volume=names.index(volume) if volume else None,
    )
