"""The length of a bar: a number and a unit, such as 15m, 1h, 1d, 1w or 1mo."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ktrdr.errors import UsageError

# The convention of US equities: 252 trading days a year, of 6.5 hours each.
DAYS_A_YEAR: Final = 252.0
MINUTES_A_DAY: Final = 390.0
_UNITS_A_YEAR: Final = {
    "m": DAYS_A_YEAR * MINUTES_A_DAY,
    "h": DAYS_A_YEAR * MINUTES_A_DAY / 60,
    "d": DAYS_A_YEAR,
    "w": 52.0,
    "mo": 12.0,
}
_TIMEFRAME: Final = re.compile(r"([1-9][0-9]{0,3})(mo|[mhdw])")


class Timeframe(NamedTuple):
    """So many of a unit: m, h, d, w or mo."""

    number: int
    unit: str


def parse_timeframe(timeframe: str) -> Timeframe:
    """The parts of a bar's length.

    Raises:
        UsageError: This is no timeframe.
    """
    found = _TIMEFRAME.fullmatch(timeframe)
    if not found:
        raise UsageError(
            f"{timeframe!r} is not the length of a bar",
            hint="Write a number and m, h, d, w or mo, such as 15m or 1d.",
        )
    return Timeframe(int(found[1]), found[2])


def bars_per_year(timeframe: str) -> float:
    """How many bars make a year, for annualising.

    Raises:
        UsageError: This is no timeframe.
    """
    number, unit = parse_timeframe(timeframe)
    return _UNITS_A_YEAR[unit] / number
