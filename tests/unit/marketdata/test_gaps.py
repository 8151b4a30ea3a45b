"""Gaps are detected without an exchange calendar, and regular pauses are listed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ktrdr.marketdata.gaps import GapFinder
from ktrdr.schemas.data import GapSummary

MONDAY = datetime(2024, 1, 8, tzinfo=UTC)


def gaps(timeframe: str, times: Iterable[datetime]) -> GapSummary:
    finder = GapFinder(timeframe)
    for line, time in enumerate(times, start=2):
        finder.add_bar(line, int(time.timestamp()))
    return finder.build_report()


def days(*offsets: int) -> list[datetime]:
    return [MONDAY + timedelta(days=offset) for offset in offsets]


def sessions(weeks: int, minutes: int = 30) -> list[datetime]:
    """Return bar times from Monday to Friday, 14:30 to 21:00."""
    return [
        MONDAY + timedelta(days=7 * week + day, hours=14, minutes=30 + minute)
        for week in range(weeks)
        for day in range(5)
        for minute in range(0, 390, minutes)
    ]


@pytest.mark.parametrize(
    ("offsets", "count", "missing"),
    [
        ((0, 1, 2, 3, 4, 7, 8), 0, 0),
        ((3, 8), 0, 0),  # Thursday to Tuesday, as at Easter
        ((0, 3), 0, 0),
        ((0, 4), 1, 3),
        ((3, 9), 1, 3),
        ((4, 14), 1, 5),
    ],
)
def test_a_daily_gap_is_three_weekdays_in_a_row_without_a_bar(
    offsets: tuple[int, ...], count: int, missing: int
) -> None:
    report = gaps("1d", days(*offsets))
    assert (report.count, report.missing_bars) == (count, missing)


def test_all_days_count_if_there_is_trading_on_weekends() -> None:
    report = gaps("1d", days(*range(14), 15, 16, *range(20, 30)))
    assert (report.count, report.missing_bars) == (2, 4)
    assert report.first[0].after == MONDAY + timedelta(days=13)
    assert report.first[0].line == 16


def test_clock_changes_between_daily_bars_are_no_gaps() -> None:
    times = [MONDAY + timedelta(days=day, hours=5 - (day > 5)) for day in range(14)]
    assert gaps("1d", times).count == 0


def test_recurring_nights_and_weekends_are_pauses_and_a_missing_bar_is_a_gap() -> None:
    times = sessions(weeks=3)
    missing_time = times.pop(40)
    report = gaps("30m", times)
    assert (report.count, report.missing_bars) == (1, 1)
    assert report.first[0].after == missing_time - timedelta(minutes=30)
    assert [(pause.start, pause.end, pause.times) for pause in report.pauses] == [
        ("21:00", "14:30", 14)
    ]


def test_a_session_that_ends_early_and_a_week_without_bars_are_gaps() -> None:
    times = sessions(weeks=4)
    early = [time for time in times if time.date() != MONDAY.date() or time.hour < 18]
    assert gaps("30m", early).count == 1
    without = [time for time in times if not 7 <= (time - MONDAY).days < 14]
    report = gaps("30m", without)
    assert (report.count, report.first[0].until) == (1, MONDAY + timedelta(days=14, hours=14.5))


def test_the_weekends_of_currencies_recur_in_summer_and_in_winter() -> None:
    start = datetime(2023, 1, 1, 22, tzinfo=UTC)
    times = []
    for hour in range(52 * 7 * 24):
        time = start + timedelta(hours=hour)
        close = 21 if 4 <= time.month <= 10 else 22
        hours = time.weekday() * 24 + time.hour
        if hours < 4 * 24 + close or hours >= 6 * 24 + close:
            times.append(time)
    report = gaps("1h", times)
    # Only the weekend of the clock change is irregular.
    assert [gap.after.date().isoformat() for gap in report.first] == ["2023-03-31"]
    assert {(pause.start, pause.end) for pause in report.pauses} == {
        ("21:00", "21:00"),
        ("22:00", "22:00"),
    }


@pytest.mark.parametrize(
    ("timeframe", "offsets", "count", "missing"),
    [
        ("1w", (0, 7, 15, 21), 0, 0),
        ("1w", (0, 7, 21), 1, 1),
        ("1mo", (0, 31, 60, 91), 0, 0),
        ("1mo", (0, 31, 91), 1, 1),
        ("3mo", (0, 91, 182, 366), 1, 1),
    ],
)
def test_weeks_and_months_vary_in_length_and_a_missing_one_is_a_gap(
    timeframe: str, offsets: tuple[int, ...], count: int, missing: int
) -> None:
    report = gaps(timeframe, days(*offsets))
    assert (report.count, report.missing_bars) == (count, missing)


@given(
    st.sampled_from(["1m", "5m", "1h", "24h", "1d", "2d", "1w", "1mo"]),
    st.lists(st.integers(-(2**33), 2**32), unique=True, max_size=60),
)
@example("1w", [0, 10 * 86_400 + 3600])
@example("15d", [0, 26 * 86_400])
def test_any_times_give_a_consistent_report(timeframe: str, seconds: list[int]) -> None:
    finder = GapFinder(timeframe)
    for line, time in enumerate(sorted(seconds), start=2):
        finder.add_bar(line, time)
    report = finder.build_report()
    assert report.missing_bars >= report.count >= len(report.first)
    assert all(gap.missing_bars >= 1 and gap.after < gap.until for gap in report.first)
    assert [gap.line for gap in report.first] == sorted(gap.line for gap in report.first)
