"""Timeframes: the length of a bar as a number and a unit, such as 15m, 1h, 1d, 1w or 1mo."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ktrdr.errors import UsageError

# The convention of US equities: 252 trading days a year, of 6.5 hours each.
DAYS_PER_YEAR: Final = 252.0
MINUTES_PER_DAY: Final = 390.0
_UNITS_PER_YEAR: Final = {
    "m": DAYS_PER_YEAR * MINUTES_PER_DAY,
    "h": DAYS_PER_YEAR * MINUTES_PER_DAY / 60,
    "d": DAYS_PER_YEAR,
    "w": 52.0,
    "mo": 12.0,
}
_TIMEFRAME: Final = re.compile(r"([1-9][0-9]{0,3})(mo|[mhdw])")


class Timeframe(NamedTuple):
    """A number of units: m, h, d, w or mo."""

    number: int
    unit: str


def parse_timeframe(timeframe: str) -> Timeframe:
    """Return number and unit of a timeframe.

    Raises:
        UsageError: The text is not a timeframe.
    """
    match = _TIMEFRAME.fullmatch(timeframe)
    if not match:
        raise UsageError(
            f"{timeframe!r} is not the length of a bar",
            hint="Write a number and m, h, d, w or mo, such as 15m or 1d.",
        )
    return Timeframe(int(match[1]), match[2])


def bars_per_year(timeframe: str) -> float:
    """Return the number of bars in a year, for annualising.

    Raises:
        UsageError: The text is not a timeframe.
    """
    number, unit = parse_timeframe(timeframe)
    return _UNITS_PER_YEAR[unit] / number
