"""Rows are read strictly: what is wrong with one is said in words."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.errors import UsageError
from ktrdr.marketdata.rows import MAX_FAULTS, Bar, read_bars

HEADER = "timestamp,open,high,low,close,volume\n"
EXCERPT = Path(__file__).parents[2] / "data" / "sp500_2007_2009.csv"


def read(text: str) -> list[Bar]:
    return list(read_bars(io.StringIO(text)))


def test_a_file_as_vendors_write_it_is_read_to_the_last_figure() -> None:
    with EXCERPT.open(encoding="utf-8", newline="") as file:
        expected = list(csv.DictReader(file))
    found = read(EXCERPT.read_text(encoding="utf-8"))
    assert len(found) == len(expected) == 600
    for bar, row in zip(found, expected, strict=True):
        assert bar.time == datetime.strptime(row["Date"], "%m/%d/%Y").replace(tzinfo=UTC)
        assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == tuple(
            float(row[name]) for name in ("Open", "High", "Low", "Close", "Volume")
        )


@pytest.mark.parametrize(
    ("row", "sign"),
    [
        ("2020-01-01,1,2,0.5,x,1", "'x' is not a number"),
        ("2020-01-01,1,2,0.5,,1", "'' is not a number"),
        ("2020-01-01,1,2", "too few fields"),
        ("yesterday,1,2,0.5,1,1", "'yesterday' is not a time"),
        ("2020-02-30,1,2,0.5,1,1", "'2020-02-30' is not a time"),
        ("2020-01-01,1,inf,0.5,1,1", "not a finite number"),
        ("2020-01-01,1,2,-0.5,1,1", "not positive"),
        ("2020-01-01,1,2,0.5,1,-1", "volume is negative"),
        ("2020-01-01,1,2,1.5,1.7,1", "do not enclose"),
    ],
)
def test_a_row_that_cannot_be_a_bar_is_named_by_line_and_reason(row: str, sign: str) -> None:
    with pytest.raises(UsageError, match="line 2: ") as caught:
        read(HEADER + row + "\n")
    assert sign in caught.value.message


def test_of_many_faults_the_first_are_listed_and_the_rest_are_hinted_at() -> None:
    with pytest.raises(UsageError) as caught:
        read(HEADER + "2020-01-01,1,2,0.5,x,1\n" * 50)
    assert caught.value.message.count("line ") == MAX_FAULTS
    assert caught.value.message.endswith("; and more")


def test_a_file_must_write_all_its_times_the_same_way() -> None:
    with pytest.raises(UsageError, match=r"line 3: '1/2/2020' is not an ISO time"):
        read(HEADER + "2020-01-01,1,2,0.5,1,1\n1/2/2020,1,2,0.5,1,1\n")


def test_empty_lines_count_for_the_line_numbers_and_for_nothing_else() -> None:
    good = "2020-01-01,1,2,0.5,1,1\n"
    assert len(read(f"{HEADER}\n{good}\n")) == 1
    with pytest.raises(UsageError, match=r"line 4: .* stands twice"):
        read(f"{HEADER}{good}\n{good}")


prices = st.floats(0.01, 1e6)


@given(st.lists(st.tuples(prices, prices, prices, prices, st.floats(0, 1e12)), min_size=1))
def test_bars_that_were_written_come_back_exactly(
    values: list[tuple[float, float, float, float, float]],
) -> None:
    bars = [
        Bar(datetime(2000, 1, 1, n // 60, n % 60, tzinfo=UTC), a, max(p), min(p), d, volume)
        for n, (a, b, c, d, volume) in enumerate(values)
        if (p := (a, b, c, d))
    ]
    lines = [
        f"{bar.time.isoformat()},{bar.open!r},{bar.high!r},{bar.low!r},{bar.close!r},{bar.volume!r}"
        for bar in bars
    ]
    assert read(HEADER + "\n".join(lines)) == bars
