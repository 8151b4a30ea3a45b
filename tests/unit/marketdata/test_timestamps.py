"""Times are parsed in their format, or rejected with the reason."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ktrdr.errors import UsageError
from ktrdr.marketdata.timestamps import DATE_FORMATS, detect_date_format, timestamp_parser
from tests.unit.marketdata.files import csv_table, import_text, stored_rows

NEW_YORK = "America/New_York"


def read(text: str, date_format: str = "iso", zone: str = "UTC", previous: str = "") -> str:
    before = int(datetime.fromisoformat(previous).timestamp()) if previous else None
    seconds = timestamp_parser(date_format, zone)(text, before)
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%d %H:%M:%S}"


@pytest.mark.parametrize("order", ["mdy", "dmy"])
def test_interchangeable_days_and_months_are_rejected_unless_the_order_is_chosen(
    order: str, tmp_path: Path
) -> None:
    text = csv_table("1/2/2003,1,2,1,2,3", "2/3/2003,1,2,1,2,3")
    with pytest.raises(
        UsageError, match="line 2: '1/2/2003' and all following times may be M/D or D/M"
    ) as caught:
        import_text(text, tmp_path)
    assert "--date-format mdy or --date-format dmy" in str(caught.value.hint)
    import_text(text, tmp_path, date_format=order)
    assert stored_rows(tmp_path)[0].startswith("2003-01-02" if order == "mdy" else "2003-02-01")


def test_a_day_after_the_twelfth_determines_the_order(tmp_path: Path) -> None:
    rows = [f"2/{day}/2003,1,2,1,2,3" for day in range(1, 14)]
    assert import_text(csv_table(*rows), tmp_path).date_format == "mdy"
    with pytest.raises(UsageError, match="may be M/D or D/M"):
        import_text(csv_table(*rows[:12]), tmp_path)


def test_an_invalid_time_among_many_does_not_change_the_format() -> None:
    times = [(2, "Total"), *((3 + day, f"{day}.1.2020") for day in range(1, 28))]
    assert detect_date_format(times, "UTC") == "dmy"


def test_an_unknown_format_is_reported_with_its_line() -> None:
    with pytest.raises(UsageError, match="line 2: 'Jan 5' is not a time") as caught:
        detect_date_format([(2, "Jan 5")], "UTC")
    assert all(name in str(caught.value.hint) for name in DATE_FORMATS)


@pytest.mark.parametrize(
    ("text", "date_format", "expected"),
    [
        ("2020-01-31", "iso", "2020-01-31 00:00:00"),
        ("2020-01-31 09:30", "iso", "2020-01-31 09:30:00"),
        ("2020-01-31T09:30:15-05:00", "iso", "2020-01-31 14:30:15"),
        ("202001310930", "ymd", "2020-01-31 09:30:00"),
        ("2020/01/31 09:30:15.000", "ymd", "2020-01-31 09:30:15"),
        ("1/31/2020 12:05 AM", "mdy", "2020-01-31 00:05:00"),
        ("1/31/2020 12:05 PM", "mdy", "2020-01-31 12:05:00"),
        ("31-01-2020 23:59", "dmy", "2020-01-31 23:59:00"),
        ("-86400", "epoch", "1969-12-31 00:00:00"),
        ("1580428800.0", "epoch", "2020-01-31 00:00:00"),
        ("1580428800000", "epoch-ms", "2020-01-31 00:00:00"),
        ("31-Jan-20", "%d-%b-%y", "2020-01-31 00:00:00"),
        ("2020-01-31 +0100", "%Y-%m-%d %z", "2020-01-30 23:00:00"),
    ],
)
def test_a_time_is_parsed_in_the_chosen_format(text: str, date_format: str, expected: str) -> None:
    assert read(text, date_format) == expected


@pytest.mark.parametrize(
    ("text", "date_format"),
    [
        ("20200131", "iso"),
        ("2020-W05-5", "iso"),
        ("2020-02-30", "iso"),
        ("13/1/2020", "mdy"),
        ("1/13/2020", "dmy"),
        ("1/2-2020", "mdy"),
        ("1/31/2020 13:00 PM", "mdy"),
        ("1/31/2020 25:00", "mdy"),
        ("20201301", "ymd"),
        ("٢٠٢٠٠١٣١", "ymd"),
        ("1580428800.5", "epoch"),
        ("1580428800001", "epoch-ms"),
        ("9" * 30, "epoch"),
        ("31 January", "%d-%b-%y"),
        ("99999999999", "epoch"),
    ],
)
def test_a_time_in_another_format_is_rejected(text: str, date_format: str) -> None:
    with pytest.raises(ValueError, match=r"is not|does not match|fractions of a second"):
        read(text, date_format)


@pytest.mark.parametrize(
    ("text", "previous", "expected"),
    [
        ("2024-01-05 09:30", "", "2024-01-05 14:30:00"),
        ("2024-07-05 09:30", "", "2024-07-05 13:30:00"),
        ("2024-07-05 09:30+00:00", "", "2024-07-05 09:30:00"),
        # Clocks show 1:30 twice on 3 November 2024: at 5:30 and at 6:30 UTC.
        ("2024-11-03 01:30", "", "2024-11-03 05:30:00"),
        ("2024-11-03 01:30", "2024-11-03T05:29+00:00", "2024-11-03 05:30:00"),
        ("2024-11-03 01:30", "2024-11-03T05:59+00:00", "2024-11-03 06:30:00"),
    ],
)
def test_times_without_a_zone_are_in_the_chosen_zone(
    text: str, previous: str, expected: str
) -> None:
    assert read(text, zone=NEW_YORK, previous=previous) == expected


def test_all_bars_of_a_night_with_a_clock_change_are_kept(tmp_path: Path) -> None:
    clock = ["00:30", "01:00", "01:30", "01:00", "01:30", "02:00"]
    rows = [f"2024-11-03 {time},1,2,1,2,3" for time in clock]
    report = import_text(csv_table(*rows), tmp_path, timeframe="30m", time_zone=NEW_YORK)
    assert [row[11:16] for row in stored_rows(tmp_path, timeframe="30m")] == [
        "04:30",
        "05:00",
        "05:30",
        "06:00",
        "06:30",
        "07:00",
    ]
    assert report.gaps.count == 0


def test_a_time_that_clocks_skip_is_reported_with_its_line(tmp_path: Path) -> None:
    rows = ["2024-03-10 01:30,1,2,1,2,3", "2024-03-10 02:30,1,2,1,2,3"]
    with pytest.raises(UsageError, match="line 3: 2024-03-10 02:30:00 does not exist in America"):
        import_text(csv_table(*rows), tmp_path, timeframe="30m", time_zone=NEW_YORK)


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("America/NewYork", "Did you mean America/New_York?"),
        ("America", "Write it like Europe/Berlin|Did you mean"),
        ("../../etc/passwd", "Write it like Europe/Berlin|Did you mean"),
        ("", "Write it like Europe/Berlin"),
    ],
)
def test_an_unknown_zone_is_rejected(zone: str, hint: str) -> None:
    with pytest.raises(UsageError, match="is not a time zone") as caught:
        timestamp_parser("iso", zone)
    import re

    assert re.search(hint, str(caught.value.hint))


@pytest.mark.parametrize("date_format", ["american", "%Q", "%", "%Y-%"])
def test_an_unknown_format_is_rejected(date_format: str) -> None:
    with pytest.raises(UsageError, match=r"is not a (date )?format"):
        timestamp_parser(date_format, "UTC")
