"""What a CSV file looks like: its lines, its delimiter, and which column is which."""

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
# The first that is there counts; "date" and "time" side by side are one time in two columns.
_TIME_NAMES: Final = ("timestamp", "datetime", "gmt time", "open time", "date", "time")
_VOLUME_NAMES: Final = ("volume", "vol", "tickvol")
# No row of bars is as long; what is, is no table, and must not fill the memory.
_LONGEST_LINE: Final = 64 * 1024
# As much as a gzip file may hold: a small one can hide a terabyte.
_MOST_CHARACTERS: Final = 8 * 1024**3


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a row has what; ``clock`` is the time of day, if it stands in a column of its own."""

    time: int
    clock: int | None
    prices: tuple[int, int, int, int]
    volume: int | None


def lines_of(file: TextIO) -> Iterator[str]:
    """A file's lines.

    Raises:
        UsageError: A line or the whole is longer than any table of bars.
    """
    number = total = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        total += len(line)
        if len(line) == _LONGEST_LINE and not line.endswith("\n"):
            raise UsageError(
                f"line {number} is longer than {_LONGEST_LINE // 1024} KB",
                hint="Export the bars as a table with one bar a line.",
            )
        if total > _MOST_CHARACTERS:
            raise UsageError(
                f"the file is longer than {_MOST_CHARACTERS // 1024**3} GB when it is unpacked",
                hint="Split it by timeframe or symbol.",
            )
        yield line


def read_header(line: str | None, chosen: Delimiter | None) -> tuple[Delimiter, Columns]:
    """The delimiter, recognised unless it is chosen, and the columns that the first line names.

    Raises:
        UsageError: There is no header, or it lacks a column, or names one twice.
    """
    if line is None:
        raise UsageError("the file is empty", hint="Import a CSV file with a header line.")
    line = line.lstrip("\ufeff")
    found = chosen or max(Delimiter, key=lambda each: line.count(DELIMITERS[each]))
    cells = next(csv.reader([line], delimiter=DELIMITERS[found]), [])
    return found, _columns([_plain(cell) for cell in cells])


def _plain(name: str) -> str:
    """A column's name without what programs decorate it with, such as <DATE> or Open_Time."""
    return name.strip().strip("<>").replace("_", " ").lower()


def _columns(names: Sequence[str]) -> Columns:
    time = next((name for name in _TIME_NAMES if name in names), None)
    volume = next((name for name in _VOLUME_NAMES if name in names), None)
    missing = [name for name in PRICE_NAMES if name not in names]
    if time is None:
        missing.insert(0, "timestamp, datetime, date or time")
    if missing or time is None:
        has = ", ".join(filter(None, names))[:200] or "nothing"
        raise UsageError(
            f"the header lacks {', '.join(missing)}; it has {has}",
            hint="Name the columns timestamp, open, high, low, close and volume.",
        )
    for name in (time, *PRICE_NAMES, volume):
        if name and names.count(name) > 1:
            raise UsageError(
                f"the header names {name} twice", hint="Leave in one column of each name."
            )
    first, high, low, close = (names.index(name) for name in PRICE_NAMES)
    return Columns(
        time=names.index(time),
        clock=names.index("time") if time == "date" and "time" in names else None,
        prices=(first, high, low, close),
        volume=names.index(volume) if volume else None,
    )
