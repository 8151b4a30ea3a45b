"""Detection of missing bars, by rules that need no exchange calendar."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from ktrdr.marketdata.timeframe import parse_timeframe
from ktrdr.schemas.data import Gap, GapSummary, RecurringPause

MAX_SHOWN: Final = 5
DAY: Final = 86_400
_UNITS: Final = {"m": 60, "h": 3600, "d": DAY, "w": 7 * DAY}
# No weekend with holidays is longer. A longer closure of the exchange is reported as a gap.
LONGEST_PAUSE: Final = 5 * DAY
# The weekend pause of a currency pair has other times (UTC) in summer than in winter. Each of the
# two occurs on at least a twentieth of the days.
_MIN_SHARE: Final = 20
_MIN_TIMES: Final = 3
# Two holidays beside a weekend, as at Easter.
_MAX_HOLIDAYS: Final = 2
_MAX_PAUSES: Final = 2000
# 1 January 1970 was a Thursday.
_THURSDAY: Final = 3

_INTRADAY: Final = (
    "a step of more than one bar, except regular pauses: steps of at most 5 days that begin and end"
    " at the same times of day (UTC), at least three times and on a twentieth of the days with bars"
)
_DAILY: Final = "more than 2 weekdays in a row without a bar"
_EVERY_DAY: Final = "a day without a bar, as at least a seventh of the bars are on weekends"
_WEEKLY: Final = "a step longer than one bar and 3 days"
_MONTHLY: Final = "a step of more calendar months than one bar"


@dataclass(slots=True)
class _Tally:
    count: int = 0
    missing: int = 0
    first: list[Gap] = field(default_factory=list)

    def add(self, line: int, previous: int, time: int, missing: int) -> None:
        self.count += 1
        self.missing += missing
        if len(self.first) < MAX_SHOWN:
            gap = Gap(after=_utc(previous), until=_utc(time), missing_bars=missing, line=line)
            self.first.append(gap)

    def merge(self, other: _Tally) -> None:
        self.count += other.count
        self.missing += other.missing
        self.first = sorted(self.first + other.first, key=lambda gap: gap.until)[:MAX_SHOWN]


class GapFinder:
    """Finder of the gaps between bars in ascending order, in constant memory."""

    def __init__(self, timeframe: str) -> None:
        self._number, self._unit = parse_timeframe(timeframe)
        self._length = self._number * _UNITS.get(self._unit, 28 * DAY)
        self._previous: int | None = None
        self._gaps = _Tally()
        # Steps that may prove to be regular pauses, by their start and end times of day.
        self._pauses: dict[tuple[int, int], _Tally] = {}
        # Gaps, if there is trading on weekends.
        self._every_day = _Tally()
        self._bars = self._weekend_bars = self._days = 0
        self._day: int | None = None

    def add_bar(self, line: int, time: int) -> None:
        """Add the next bar."""
        day = time // DAY
        if day != self._day:
            self._day = day
            self._days += 1
        self._bars += 1
        if (day + _THURSDAY) % 7 >= 5:
            self._weekend_bars += 1
        previous, self._previous = self._previous, time
        if previous is not None and time - previous > self._length:
            self._add_step(line, previous, time)

    def build_report(self) -> GapSummary:
        """Return the gaps between the added bars."""
        gaps = self._gaps
        pauses: list[RecurringPause] = []
        if self._unit in ("m", "h"):
            gaps, pauses = self._separate_pauses()
            rule = _INTRADAY
        elif self._unit == "d":
            rule = _DAILY
            if self._weekend_bars * 7 >= self._bars > 0:
                gaps, rule = self._every_day, _EVERY_DAY
        else:
            rule = _WEEKLY if self._unit == "w" else _MONTHLY
        return GapSummary(
            rule=rule,
            count=gaps.count,
            missing_bars=gaps.missing,
            first=gaps.first,
            pauses=pauses,
        )

    def _add_step(self, line: int, previous: int, time: int) -> None:
        if self._unit == "d":
            # Rounded, because clock changes make days longer or shorter.
            missing = round((time - previous) / self._length) - 1
            if missing > 0:
                self._every_day.add(line, previous, time, missing)
            weekdays = _weekdays_before(time // DAY) - _weekdays_before(previous // DAY + 1)
            free = weekdays - (self._number - 1)
            if free > _MAX_HOLIDAYS:
                self._gaps.add(line, previous, time, max(1, free // self._number))
        elif self._unit == "w":
            if time - previous > self._length + 3 * DAY:
                # A step of less than one and a half bars still lacks one.
                missing = max(1, round((time - previous) / self._length) - 1)
                self._gaps.add(line, previous, time, missing)
        elif self._unit == "mo":
            months = _month(time) - _month(previous)
            if months > self._number:
                self._gaps.add(line, previous, time, -(-months // self._number) - 1)
        else:
            self._add_intraday_step(line, previous, time)

    def _add_intraday_step(self, line: int, previous: int, time: int) -> None:
        missing = (time - previous - 1) // self._length
        key = (previous % DAY, time % DAY)
        has_room = key in self._pauses or len(self._pauses) < _MAX_PAUSES
        if has_room and time - previous <= LONGEST_PAUSE:
            self._pauses.setdefault(key, _Tally()).add(line, previous, time, missing)
        else:
            self._gaps.add(line, previous, time, missing)

    def _separate_pauses(self) -> tuple[_Tally, list[RecurringPause]]:
        """Return the gaps and the most frequent regular pauses."""
        min_times = max(_MIN_TIMES, self._days / _MIN_SHARE)
        gaps = _Tally()
        gaps.merge(self._gaps)
        regular = []
        for (start, end), tally in self._pauses.items():
            if tally.count < min_times:
                gaps.merge(tally)
            else:
                # The pause begins at the end of the last bar.
                begin = (start + self._length) % DAY
                regular.append(
                    RecurringPause(start=_clock(begin), end=_clock(end), times=tally.count)
                )
        regular.sort(key=lambda pause: (-pause.times, pause.start))
        return gaps, regular[:MAX_SHOWN]


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
