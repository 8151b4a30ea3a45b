"""Datasets are read as arrays, and invalid requests are rejected with the existing data."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from ktrdr.errors import InvalidParameters, UsageError
from ktrdr.marketdata.bars import read_bars
from tests.unit.backtesting.bars import random_bars, write_csv
from tests.unit.marketdata.files import csv_table, import_text


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_csv(random_bars(40), tmp_path / "TEST" / "1d.csv")
    return tmp_path


def test_all_columns_are_read_as_they_were_written(root: Path) -> None:
    bars, written = read_bars(root, "TEST", "1d"), random_bars(40)
    assert bars.times.equals(written.times)
    for column in ("open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(getattr(bars, column), getattr(written, column))


def test_a_range_includes_its_start_and_excludes_its_end(root: Path) -> None:
    bars = read_bars(root, "TEST", "1d", date(2001, 1, 5), date(2001, 1, 9))
    assert [time.day for time in bars.times] == [5, 6, 7, 8]


def test_the_hash_is_that_of_the_whole_file_for_any_range(root: Path) -> None:
    content = (root / "TEST" / "1d.csv").read_bytes()
    bars = read_bars(root, "TEST", "1d", date(2001, 1, 5))
    assert bars.data_hash == hashlib.sha256(content).hexdigest()


def test_dates_outside_the_data_are_rejected_with_the_covered_range(root: Path) -> None:
    with pytest.raises(InvalidParameters, match="no bars between") as caught:
        read_bars(root, "TEST", "1d", date(2030, 1, 1))
    assert caught.value.hint == "It covers 2001-01-01 to 2001-02-09."


def test_an_unknown_symbol_is_reported_with_the_nearest_known_one(root: Path) -> None:
    with pytest.raises(InvalidParameters, match="no data for TESST 1d") as caught:
        read_bars(root, "TESST", "1d")
    assert str(caught.value.hint).startswith("Did you mean TEST? ")


def test_without_data_the_hint_is_to_import_some(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameters) as caught:
        read_bars(tmp_path, "TEST", "1d")
    assert "ktrdr data import" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["..", "a/b", "", ".hidden", "x" * 65])
def test_no_name_reads_a_file_outside_the_directory(root: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a symbol"):
        read_bars(root, name, "1d")
    with pytest.raises(UsageError, match="is not the length of a bar"):
        read_bars(root, "TEST", name)


@pytest.mark.parametrize(
    ("timeframe", "count"),
    [
        ("1d", 252),
        ("1h", 1638),
        ("1m", 98_280),
        ("5m", 19_656),
        ("4h", 409.5),
        ("1w", 52),
        ("1mo", 12),
    ],
)
def test_a_year_has_252_sessions_of_390_minutes(timeframe: str, count: float) -> None:
    assert dataclasses.replace(random_bars(3), timeframe=timeframe).bars_per_year == count


GOOD = "timestamp,open,high,low,close,volume\n2020-01-01T00:00:00Z,1,2,0.5,1,10\n"


@pytest.mark.parametrize(
    ("content", "damage"),
    [
        ("", "is damaged"),
        ("a,b\n1,2\n", "is damaged"),
        (GOOD.replace("volume", "amount"), "lacks volume"),
        (GOOD.partition("\n")[0] + "\n", "has no bars"),
        (GOOD + "2020-01-02T00:00:00Z,x,2,0.5,1,10\n", "is damaged"),
        (GOOD + "2020-01-02T00:00:00Z,-1,2,-1,1,10\n", "not positive numbers"),
        (GOOD + "2020-01-02T00:00:00Z,1,0.9,0.5,1,10\n", "do not enclose"),
        (GOOD + "2019-01-02T00:00:00Z,1,2,0.5,1,10\n", "not in the order"),
        (GOOD + "2020-01-01T00:00:00Z,1,2,0.5,1,10\n", "not in the order"),
        (GOOD + ",1,2,0.5,1,10\n", "without a time"),
        (GOOD + "2020-01-02T00:00:00Z,1,2,0.5,1,-10\n", "negative volumes"),
    ],
)
def test_an_invalid_file_added_by_hand_is_reported_with_its_damage(
    tmp_path: Path, content: str, damage: str
) -> None:
    (tmp_path / "HAND").mkdir()
    (tmp_path / "HAND/1d.csv").write_text(content)
    with pytest.raises(InvalidParameters, match=damage) as caught:
        read_bars(tmp_path, "HAND", "1d")
    assert "ktrdr data import" in str(caught.value.hint)


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    """Return a directory with a thousand imported bars."""
    start = datetime(2020, 1, 1, tzinfo=UTC)
    rows = [
        f"{(start + timedelta(minutes=n * 10)).isoformat()},{n + 1},{n + 2},{n + 1},{n + 2},{n}"
        for n in range(1000)
    ]
    import_text(csv_table(*rows), tmp_path, "BIG", "10m")
    return tmp_path


class ReadCounter:
    """Counter of the bytes that are read from each kind of file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by_suffix: dict[str, int] = {}
        real_open, real_fromfile = Path.open, np.fromfile

        def open_counted(path: Path, *args, **kwargs):
            file = real_open(path, *args, **kwargs)
            read = file.read

            def read_counted(*size):
                content = read(*size)
                self.by_suffix[path.suffix] = self.by_suffix.get(path.suffix, 0) + len(content)
                return content

            return CountedFile(file, read_counted)

        def fromfile(file, dtype, count):
            records = real_fromfile(file.file, dtype, count)
            self.by_suffix[".bars"] += records.nbytes
            return records

        monkeypatch.setattr(Path, "open", open_counted)
        monkeypatch.setattr(np, "fromfile", fromfile)


class CountedFile:
    """File whose reads are counted."""

    def __init__(self, file, read) -> None:
        self.file, self.read = file, read

    def __getattr__(self, name: str):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.file.close()


def test_reading_a_range_of_an_imported_dataset_reads_little_more_than_the_range(
    imported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = ReadCounter(monkeypatch)
    bars = read_bars(imported, "BIG", "10m", date(2020, 1, 3), date(2020, 1, 4))
    assert len(bars) == 144
    assert counter.by_suffix.get(".csv", 0) == 0
    # The bars, both ends of the file, and two bisections.
    assert 144 * 48 < counter.by_suffix[".bars"] <= (144 + 2 + 2 * 10) * 48


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (None, None),
        (date(2020, 1, 3), None),
        (None, date(2020, 1, 3)),
        (date(2020, 1, 2), date(2020, 1, 5)),
        (date(1999, 1, 1), date(2030, 1, 1)),
    ],
)
def test_an_imported_dataset_is_equal_with_and_without_its_binary_copy(
    imported: Path, start: date | None, end: date | None
) -> None:
    fast = read_bars(imported, "BIG", "10m", start, end)
    for copy in imported.glob("BIG/.*.bars"):
        copy.unlink()
    slow = read_bars(imported, "BIG", "10m", start, end)
    assert fast.times.equals(slow.times)
    assert fast.times.dtype == slow.times.dtype
    assert fast.data_hash == slow.data_hash
    for column in ("open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(getattr(fast, column), getattr(slow, column))
        assert getattr(fast, column).flags["C_CONTIGUOUS"]


def test_dates_outside_an_imported_dataset_are_rejected_with_its_range(
    imported: Path,
) -> None:
    for start, end in ((date(2030, 1, 1), None), (None, date(2019, 1, 1))):
        with pytest.raises(InvalidParameters, match="no bars between") as caught:
            read_bars(imported, "BIG", "10m", start, end)
        assert caught.value.hint == "It covers 2020-01-01 to 2020-01-07."


def test_a_file_changed_by_hand_after_its_import_is_read_and_hashed_again(imported: Path) -> None:
    before = read_bars(imported, "BIG", "10m")
    path = imported / "BIG" / "10m.csv"
    path.write_text(path.read_text().replace(",1.0,2.0,1.0,2.0,0.0", ",1.0,2.0,1.0,1.5,0.0"))
    after = read_bars(imported, "BIG", "10m")
    assert (before.close[0], after.close[0]) == (2.0, 1.5)
    assert after.data_hash == hashlib.sha256(path.read_bytes()).hexdigest() != before.data_hash


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-1],
        lambda raw: raw + b"\0" * 48,
        lambda raw: b"\0" * len(raw),
        lambda raw: raw[:480] + b"\xff" * 48 + raw[528:],
        lambda raw: raw[:480] + raw[528:576] + raw[480:528] + raw[576:],
    ],
)
def test_a_damaged_binary_copy_is_ignored(imported: Path, damage) -> None:
    expected = read_bars(imported, "BIG", "10m")
    (copy,) = imported.glob("BIG/.*.bars")
    copy.write_bytes(damage(copy.read_bytes()))
    bars = read_bars(imported, "BIG", "10m")
    np.testing.assert_array_equal(bars.close, expected.close)
    assert bars.times.equals(expected.times)
