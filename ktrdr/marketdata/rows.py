"""Reads the CSV files of OHLCV bars that the world writes, and says what is wrong in which line.

Standard library only: the backend imports this, and must stay small.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TextIO

from ktrdr.errors import UsageError

TIME_NAMES: Final = ("timestamp", "datetime", "date", "time")
PRICE_NAMES: Final = ("open", "high", "low", "close")
# More would not help anybody to mend the file.
MAX_FAULTS: Final = 5


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its time in UTC, and its prices and volume."""

    time: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float

    def fault(self) -> str | None:
        """What is impossible about this bar, or None."""
        prices = (self.open, self.high, self.low, self.close)
        if not all(math.isfinite(value) for value in (*prices, self.volume)):
            return "a value is not a finite number"
        if min(prices) <= 0:
            return "a price is not positive"
        if self.volume < 0:
            return "the volume is negative"
        if self.high < max(prices) or self.low > min(prices):
            return "high and low do not enclose open and close"
        return None


@dataclass(frozen=True, slots=True)
class _Columns:
    time: int
    prices: tuple[int, ...]
    volume: int | None

    @property
    def last(self) -> int:
        return max(self.time, *self.prices, self.volume or 0)


def read_bars(file: TextIO) -> Iterator[Bar]:
    """The bars of a file in its order, each checked.

    The header may use any case; ``Date``, ``Datetime``, ``Time`` or ``Timestamp`` is the time;
    columns that are none of OHLCV are ignored; a missing volume counts as 0. Fields are separated
    by comma, semicolon or tab. Times without a zone are taken as UTC.

    Raises:
        UsageError: The header lacks a column, or rows are wrong: out of order, twice, unreadable or
            impossible. The first few are named by line.
    """
    header = file.readline()
    if not header.strip():
        raise UsageError("the file is empty", hint="Import a CSV file with a header line.")
    delimiter = max(",;\t", key=header.count)
    columns = _columns(next(csv.reader([header.lstrip("\ufeff")], delimiter=delimiter)))
    faults: list[str] = []
    previous: datetime | None = None
    read_time: Callable[[str], datetime] | None = None
    for number, row in enumerate(csv.reader(file, delimiter=delimiter), start=2):
        if not row:
            continue
        try:
            read_time = read_time or _time_reader(row[columns.time])
            bar = _bar(row, columns, read_time)
            fault = bar.fault() or _order_fault(previous, bar.time)
        except (ValueError, IndexError) as exc:
            fault = str(exc) if isinstance(exc, ValueError) else "there are too few fields"
        if fault is None:
            previous = bar.time
            if not faults:
                yield bar
        else:
            faults.append(f"line {number}: {fault}")
            if len(faults) > MAX_FAULTS:
                break
    if faults:
        raise UsageError(_describe(faults), hint="Correct these lines and import the file again.")
    if previous is None:
        raise UsageError("the file has a header but no bars", hint="Import a file with rows.")


def _describe(faults: Sequence[str]) -> str:
    more = "; and more" if len(faults) > MAX_FAULTS else ""
    return f"the file is not usable: {'; '.join(faults[:MAX_FAULTS])}{more}"


def _columns(header: Sequence[str]) -> _Columns:
    names = [name.strip().lower() for name in header]
    time = next((names.index(name) for name in TIME_NAMES if name in names), None)
    missing = [name for name in PRICE_NAMES if name not in names]
    if time is None:
        missing.insert(0, " or ".join(TIME_NAMES))
    if missing or time is None:
        raise UsageError(
            f"the header lacks {', '.join(missing)}; it has {', '.join(names)}",
            hint="Name the columns timestamp, open, high, low, close and volume.",
        )
    volume = names.index("volume") if "volume" in names else None
    return _Columns(time, tuple(names.index(name) for name in PRICE_NAMES), volume)


def _bar(row: Sequence[str], columns: _Columns, read_time: Callable[[str], datetime]) -> Bar:
    first, high, low, last = (_number(row[index]) for index in columns.prices)
    volume = _number(row[columns.volume]) if columns.volume is not None else 0.0
    return Bar(read_time(row[columns.time]), first, high, low, last, volume)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _order_fault(previous: datetime | None, time: datetime) -> str | None:
    if previous is None or time > previous:
        return None
    kind = "stands twice" if time == previous else "is out of order"
    return f"{time.isoformat()} {kind}"


def _time_reader(example: str) -> Callable[[str], datetime]:
    """How a file writes its times, judged by the first: all its rows must follow."""
    for read in (_iso, _american, _epoch):
        try:
            read(example)
        except ValueError:
            continue
        return read
    raise ValueError(f"{example!r} is not a time (ISO, M/D/YYYY or seconds since 1970)")


def _iso(text: str) -> datetime:
    text = text.strip()
    if len(text) < len("2000-01-01"):
        raise ValueError(f"{text!r} is not an ISO time")
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an ISO time") from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _american(text: str) -> datetime:
    try:
        return datetime.strptime(text.strip(), "%m/%d/%Y").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"{text!r} is not a date as M/D/YYYY") from None


def _epoch(text: str) -> datetime:
    try:
        return datetime.fromtimestamp(int(text), tz=UTC)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{text!r} is not a number of seconds") from None
