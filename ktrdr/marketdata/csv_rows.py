"""Reader of CSV files with OHLCV bars, which reports the faults of each row.

Standard library only: the backend imports this module and must stay small.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TextIO

from ktrdr.errors import UsageError
from ktrdr.marketdata.dialect import DELIMITERS, ColumnIndexes, read_header, read_lines
from ktrdr.marketdata.timestamps import TimestampParser, detect_date_format, timestamp_parser
from ktrdr.schemas.data import DecimalSeparator, Delimiter, ImportOptions, RowFaultKind

# Rows from which the date format is detected. Only a day above 12 distinguishes days from months.
LOOK_AHEAD: Final = 1000


class Bar(NamedTuple):
    """A bar with its line number. The time is in seconds since 1970, UTC."""

    line: int
    time: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class RowFault(NamedTuple):
    """A fault of a row, with the faulty bar if the row can be read."""

    line: int
    kind: RowFaultKind
    text: str
    bar: Bar | None = None


@dataclass(frozen=True, slots=True)
class CsvTable:
    """A file with a detected format, and its rows: bars or faults, in the order of the file."""

    delimiter: Delimiter
    date_format: str
    rows: Iterator[Bar | RowFault]


def read_table(file: TextIO, options: ImportOptions) -> CsvTable:
    """Detect the format from the header and the first rows. The other rows are read on demand.

    Unknown columns are ignored, and a missing volume counts as 0.

    Raises:
        UsageError: The file is not a table of bars, or its times are ambiguous.
    """
    lines = read_lines(file)
    delimiter, columns = read_header(next(lines, None), options.delimiter)
    rows = _split_rows(lines, DELIMITERS[delimiter])
    first_rows = list(itertools.islice(rows, LOOK_AHEAD))
    if not first_rows:
        raise UsageError(
            "the file has a header but no bars", hint="Import a file with a row for each bar."
        )
    date_format = options.date_format
    if date_format is None:
        times = [(line, time) for line, row in first_rows if (time := _time_text(row, columns))]
        if not times:
            raise UsageError(
                f"line {first_rows[0][0]}: neither this row nor the following rows contain a time",
                hint="Check the delimiter and the header.",
            )
        date_format = detect_date_format(times, options.time_zone)
    parse_time = timestamp_parser(date_format, options.time_zone)
    parse_number = (
        _parse_comma_number if options.decimal is DecimalSeparator.COMMA else _parse_number
    )
    bars = _read_bars(itertools.chain(first_rows, rows), columns, parse_time, parse_number)
    return CsvTable(delimiter, date_format, bars)


def find_fault(bar: Bar) -> RowFault | None:
    """Return the fault of an impossible bar, or None."""
    line, _, first, high, low, last, volume = bar
    # NaN fails this check, too.
    if 0 < low <= first <= high < math.inf and low <= last <= high and 0 <= volume < math.inf:
        return None
    prices = (first, high, low, last)
    if not all(math.isfinite(value) for value in (*prices, volume)):
        return RowFault(line, RowFaultKind.NOT_FINITE, "a value is not a finite number", bar)
    if min(prices) <= 0:
        text = f"the price {min(prices)} is not positive"
        return RowFault(line, RowFaultKind.NOT_POSITIVE, text, bar)
    if volume < 0:
        return RowFault(line, RowFaultKind.NEGATIVE_VOLUME, f"the volume {volume} is negative", bar)
    if high < low:
        return RowFault(line, RowFaultKind.CROSSED, f"high {high} is below low {low}", bar)
    text = f"high {high} and low {low} do not enclose open {first} and close {last}"
    return RowFault(line, RowFaultKind.NOT_ENCLOSED, text, bar)


def _split_rows(lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield rows with their line numbers. The header is line 1; empty lines are skipped."""
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        for row in reader:
            if row:
                yield reader.line_num + 1, row
    except csv.Error as exc:
        raise UsageError(
            f"line {reader.line_num + 1} cannot be read as CSV ({exc})",
            hint="Look for a quotation mark that is not closed.",
        ) from exc


def _time_text(row: Sequence[str], columns: ColumnIndexes) -> str:
    try:
        if columns.clock is None:
            return row[columns.time]
        return f"{row[columns.time]} {row[columns.clock]}"
    except IndexError:
        return ""


def _read_bars(
    rows: Iterator[tuple[int, list[str]]],
    columns: ColumnIndexes,
    parse_time: TimestampParser,
    parse_number: Callable[[str], float],
) -> Iterator[Bar | RowFault]:
    first, high, low, last = columns.prices
    previous = None
    for line, row in rows:
        try:
            time = parse_time(_time_text(row, columns), previous)
            volume = 0.0 if columns.volume is None else parse_number(row[columns.volume])
            bar = Bar(
                line,
                time,
                parse_number(row[first]),
                parse_number(row[high]),
                parse_number(row[low]),
                parse_number(row[last]),
                volume,
            )
        except IndexError:
            yield RowFault(line, RowFaultKind.UNREADABLE, "the row has too few fields")
        except (ValueError, OverflowError) as exc:
            yield RowFault(line, RowFaultKind.UNREADABLE, _shorten(str(exc), 160))
        else:
            previous = time
            yield find_fault(bar) or bar


def _parse_number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = None
    # Python accepts 1_000, which no other program writes.
    if value is None or "_" in text:
        raise ValueError(f"{_shorten(text)!r} is not a number")
    return value


def _parse_comma_number(text: str) -> float:
    if "." in text:
        raise ValueError(f"{_shorten(text)!r} is not a number with a decimal comma")
    return _parse_number(text.replace(",", "."))


def _shorten(text: str, length: int = 40) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
