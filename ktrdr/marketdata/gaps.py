"""Which bars are missing, by a rule that needs no exchange's calendar."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from ktrdr.marketdata.timeframe import parse_timeframe
from ktrdr.schemas.data import Gap, GapSummary, RecurringPause

SHOWN: Final = 5
DAY: Final = 86_400
_UNITS: Final = {"m": 60, "h": 3600, "d": DAY, "w": 7 * DAY}
# No week-end with its holidays is longer; an exchange that closes for longer is worth a line.
LONGEST_PAUSE: Final = 5 * DAY
# Friday to Sunday, in one half of the year, is a twentieth of the days of a currency pair.
_REGULAR: Final = 20
_AT_LEAST: Final = 3
# Two holidays beside a week-end, such as Easter's.
_FREE_WEEKDAYS: Final = 2
_MOST_PAUSES: Final = 2000
# 1 January 1970 was a Thursday.
_THURSDAY: Final = 3

_INTRADAY: Final = (
    "a step of more than a bar, unless it is at most 5 days long and begins and ends at the same"
    " times of day (UTC) on a twentieth of the days that have bars, and thrice at least"
)
_DAILY: Final = "more than 2 weekdays in a row without a bar"
_EVERY_DAY: Final = "a day without a bar, as a seventh of the bars or more are of week-ends"
_WEEKLY: Final = "a step of more than the bar's weeks and 3 days"
_MONTHLY: Final = "a step over more calendar months than the bar's"


@dataclass(slots=True)
class _Tally:
    count: int = 0
    missing: int = 0
    first: list[Gap] = field(default_factory=list)

    def add(self, line: int, previous: int, time: int, missing: int) -> None:
        self.count += 1
        self.missing += missing
        if len(self.first) < SHOWN:
            gap = Gap(after=_utc(previous), until=_utc(time), missing_bars=missing, line=line)
            self.first.append(gap)

    def merge(self, other: _Tally) -> None:
        self.count += other.count
        self.missing += other.missing
        self.first = sorted(self.first + other.first, key=lambda gap: gap.until)[:SHOWN]


class GapFinder:
    """Is shown all bars in the order of their times; needs no more memory for more of them."""

    def __init__(self, timeframe: str) -> None:
        self._number, self._unit = parse_timeframe(timeframe)
        self._length = self._number * _UNITS.get(self._unit, 28 * DAY)
        self._previous: int | None = None
        self._gaps = _Tally()
        # By the times of day between which they lie; what may yet prove to be regular.
        self._pauses: dict[tuple[int, int], _Tally] = {}
        # What counts if there is trade at week-ends, too.
        self._every_day = _Tally()
        self._bars = self._at_weekends = self._days = 0
        self._day: int | None = None

    def observe(self, line: int, time: int) -> None:
        """Takes note of the next bar."""
        day = time // DAY
        if day != self._day:
            self._day = day
            self._days += 1
        self._bars += 1
        if (day + _THURSDAY) % 7 >= 5:
            self._at_weekends += 1
        previous, self._previous = self._previous, time
        if previous is not None and time - previous > self._length:
            self._step(line, previous, time)

    def report(self) -> GapSummary:
        """The gaps between the bars that were shown."""
        found = self._gaps
        pauses: list[RecurringPause] = []
        if self._unit in ("m", "h"):
            found, pauses = self._judged()
            rule = _INTRADAY
        elif self._unit == "d":
            rule = _DAILY
            if self._at_weekends * 7 >= self._bars > 0:
                found, rule = self._every_day, _EVERY_DAY
        else:
            rule = _WEEKLY if self._unit == "w" else _MONTHLY
        return GapSummary(
            rule=rule,
            count=found.count,
            missing_bars=found.missing,
            first=found.first,
            pauses=pauses,
        )

    def _step(self, line: int, previous: int, time: int) -> None:
        if self._unit == "d":
            # Rounded, as clocks are put back and forward between days.
            missing = round((time - previous) / self._length) - 1
            if missing > 0:
                self._every_day.add(line, previous, time, missing)
            free = _weekdays_between(previous // DAY, time // DAY) - (self._number - 1)
            if free > _FREE_WEEKDAYS:
                self._gaps.add(line, previous, time, max(1, free // self._number))
        elif self._unit == "w":
            if time - previous > self._length + 3 * DAY:
                # A step that is nearer to one bar's than to two lacks one all the same.
                missing = max(1, round((time - previous) / self._length) - 1)
                self._gaps.add(line, previous, time, missing)
        elif self._unit == "mo":
            months = _month(time) - _month(previous)
            if months > self._number:
                self._gaps.add(line, previous, time, -(-months // self._number) - 1)
        else:
            self._intraday(line, previous, time)

    def _intraday(self, line: int, previous: int, time: int) -> None:
        missing = (time - previous - 1) // self._length
        key = (previous % DAY, time % DAY)
        known = key in self._pauses or len(self._pauses) < _MOST_PAUSES
        if known and time - previous <= LONGEST_PAUSE:
            self._pauses.setdefault(key, _Tally()).add(line, previous, time, missing)
        else:
            self._gaps.add(line, previous, time, missing)

    def _judged(self) -> tuple[_Tally, list[RecurringPause]]:
        """The gaps, and the pauses that are none."""
        enough = max(_AT_LEAST, self._days / _REGULAR)
        gaps = _Tally()
        gaps.merge(self._gaps)
        regular = []
        for (start, end), tally in self._pauses.items():
            if tally.count < enough:
                gaps.merge(tally)
            else:
                # Its last bar lasts until the pause begins.
                begin = (start + self._length) % DAY
                regular.append(
                    RecurringPause(start=_clock(begin), end=_clock(end), times=tally.count)
                )
        return gaps, _most_frequent(regular)


def _most_frequent(pauses: Iterable[RecurringPause]) -> list[RecurringPause]:
    return sorted(pauses, key=lambda pause: (-pause.times, pause.start))[:SHOWN]


def _weekdays_between(first: int, last: int) -> int:
    """How many of the days after ``first`` and before ``last`` are Monday to Friday."""
    return _weekdays_before(last) - _weekdays_before(first + 1)


def _weekdays_before(day: int) -> int:
    weeks, rest = divmod(day + _THURSDAY, 7)
    return weeks * 5 + min(rest, 5)


def _month(time: int) -> int:
    moment = _utc(time)
    return moment.year * 12 + moment.month


def _utc(time: int) -> datetime:
    return datetime.fromtimestamp(time, tz=UTC)


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds % 3600 // 60:02}"
