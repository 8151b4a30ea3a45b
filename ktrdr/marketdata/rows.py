"""Reads the CSV files of OHLCV bars that the world writes, and says what is wrong in which line.

Standard library only: the backend imports this, and must stay small.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TextIO

from ktrdr.errors import UsageError
from ktrdr.marketdata.dialect import DELIMITERS, Columns, lines_of, read_header
from ktrdr.marketdata.times import ReadTime, reader_of, recognise
from ktrdr.schemas.data import DecimalSeparator, Delimiter, ImportOptions, RowFaultKind

# The rows that the format of the times is judged by: a daily file needs a fortnight of them.
LOOK_AHEAD: Final = 1000


class Bar(NamedTuple):
    """One bar, and the line it stands in; its time is in seconds since 1970, UTC."""

    line: int
    time: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class Fault(NamedTuple):
    """What is wrong with a row, and the bar it would be if it can be read."""

    line: int
    kind: RowFaultKind
    text: str
    bar: Bar | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A file that has been recognised, and its rows in their order: bars, or what is wrong."""

    delimiter: Delimiter
    date_format: str
    rows: Iterator[Bar | Fault]


def read_table(file: TextIO, options: ImportOptions) -> Table:
    """Recognises a file by its header and its first rows; the rest is read as it is asked for.

    Columns that are none of OHLCV are ignored; a missing volume counts as 0.

    Raises:
        UsageError: This is no table of bars, or it can be read in more than one way.
    """
    lines = lines_of(file)
    delimiter, columns = read_header(next(lines, None), options.delimiter)
    rows = _split(lines, DELIMITERS[delimiter])
    first = list(itertools.islice(rows, LOOK_AHEAD))
    if not first:
        raise UsageError("the file has a header but no bars", hint="Import a file with rows.")
    date_format = options.date_format
    if date_format is None:
        times = [(line, time) for line, row in first if (time := _time(row, columns))]
        if not times:
            raise UsageError(
                f"line {first[0][0]}: there is no time in this row nor in those after it",
                hint="Check the delimiter and the header.",
            )
        date_format = recognise(times, options.time_zone)
    read_time = reader_of(date_format, options.time_zone)
    number = _comma_number if options.decimal is DecimalSeparator.COMMA else _number
    bars = _bars(itertools.chain(first, rows), columns, read_time, number)
    return Table(delimiter, date_format, bars)


def fault_of(bar: Bar) -> Fault | None:
    """What is impossible about a bar, or None."""
    line, _, first, high, low, last, volume = bar
    # This is false for whatever is not a number, too.
    if 0 < low <= first <= high < math.inf and low <= last <= high and 0 <= volume < math.inf:
        return None
    prices = (first, high, low, last)
    if not all(math.isfinite(value) for value in (*prices, volume)):
        return Fault(line, RowFaultKind.NOT_FINITE, "a value is not a finite number", bar)
    if min(prices) <= 0:
        return Fault(
            line, RowFaultKind.NOT_POSITIVE, f"the price {min(prices)} is not positive", bar
        )
    if volume < 0:
        return Fault(line, RowFaultKind.NEGATIVE_VOLUME, f"the volume {volume} is negative", bar)
    if high < low:
        return Fault(line, RowFaultKind.CROSSED, f"high {high} is below low {low}", bar)
    return Fault(
        line,
        RowFaultKind.NOT_ENCLOSED,
        f"high {high} and low {low} do not enclose open {first} and close {last}",
        bar,
    )


def _split(lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with their lines' numbers; the header was line 1, and empty lines are no rows."""
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        for row in reader:
            if row:
                yield reader.line_num + 1, row
    except csv.Error as exc:
        raise UsageError(
            f"line {reader.line_num + 1} cannot be read as CSV ({exc})",
            hint="Look there for a quotation mark that is not closed.",
        ) from exc


def _time(row: Sequence[str], columns: Columns) -> str:
    try:
        if columns.clock is None:
            return row[columns.time]
        return f"{row[columns.time]} {row[columns.clock]}"
    except IndexError:
        return ""


def _bars(
    rows: Iterator[tuple[int, list[str]]],
    columns: Columns,
    read_time: ReadTime,
    number: Callable[[str], float],
) -> Iterator[Bar | Fault]:
    first, high, low, last = columns.prices
    previous = None
    for line, row in rows:
        try:
            time = read_time(_time(row, columns), previous)
            volume = 0.0 if columns.volume is None else number(row[columns.volume])
            bar = Bar(
                line,
                time,
                number(row[first]),
                number(row[high]),
                number(row[low]),
                number(row[last]),
                volume,
            )
        except IndexError:
            yield Fault(line, RowFaultKind.UNREADABLE, "there are too few fields")
        except (ValueError, OverflowError) as exc:
            yield Fault(line, RowFaultKind.UNREADABLE, _short(str(exc), 160))
        else:
            previous = time
            yield fault_of(bar) or bar


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{_short(text)!r} is not a number") from None
    # Python reads 1_000, which nobody else writes.
    if "_" in text:
        raise ValueError(f"{_short(text)!r} is not a number")
    return value


def _comma_number(text: str) -> float:
    if "." in text:
        raise ValueError(f"{_short(text)!r} is not a number with a decimal comma")
    return _number(text.replace(",", "."))


def _short(text: str, length: int = 40) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
