"""Datasets become arrays; whoever asks for what is not there is told what is."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from ktrdr.errors import InvalidParameters, UsageError
from ktrdr.marketdata.bars import read_bars
from tests.unit.backtesting.bars import random_bars, write_csv


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_csv(random_bars(40), tmp_path / "TEST" / "1d.csv")
    return tmp_path


def test_every_column_comes_back_as_it_was_written(root: Path) -> None:
    found, written = read_bars(root, "TEST", "1d"), random_bars(40)
    assert found.times.equals(written.times)
    for column in ("open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(getattr(found, column), getattr(written, column))


def test_the_start_belongs_to_the_range_and_the_end_does_not(root: Path) -> None:
    found = read_bars(root, "TEST", "1d", date(2001, 1, 5), date(2001, 1, 9))
    assert [time.day for time in found.times] == [5, 6, 7, 8]


def test_the_hash_is_that_of_the_whole_file_whatever_part_of_it_is_read(root: Path) -> None:
    content = (root / "TEST" / "1d.csv").read_bytes()
    found = read_bars(root, "TEST", "1d", date(2001, 1, 5))
    assert found.data_hash == hashlib.sha256(content).hexdigest()


def test_dates_outside_the_data_are_refused_with_what_it_covers(root: Path) -> None:
    with pytest.raises(InvalidParameters, match="no bars between") as caught:
        read_bars(root, "TEST", "1d", date(2030, 1, 1))
    assert caught.value.hint == "It covers 2001-01-01 to 2001-02-09."


def test_an_unknown_symbol_is_answered_with_the_nearest_known_one(root: Path) -> None:
    with pytest.raises(InvalidParameters, match="no data for TESST 1d") as caught:
        read_bars(root, "TESST", "1d")
    assert str(caught.value.hint).startswith("Did you mean TEST? ")


def test_without_any_data_the_remedy_is_to_import_some(tmp_path: Path) -> None:
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
    ("timeframe", "bars"),
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
def test_a_year_has_as_many_bars_as_252_sessions_of_390_minutes(
    timeframe: str, bars: float
) -> None:
    assert dataclasses.replace(random_bars(3), timeframe=timeframe).bars_a_year == bars


GOOD = "timestamp,open,high,low,close,volume\n2020-01-01T00:00:00Z,1,2,0.5,1,10\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is damaged"),
        ("a,b\n1,2\n", "is damaged"),
        (GOOD.replace("volume", "amount"), "lacks volume"),
        (GOOD.partition("\n")[0] + "\n", "has no bars"),
        (GOOD + "2020-01-02T00:00:00Z,x,2,0.5,1,10\n", "is damaged"),
        (GOOD + "2020-01-02T00:00:00Z,-1,2,-1,1,10\n", "no positive numbers"),
        (GOOD + "2020-01-02T00:00:00Z,1,0.9,0.5,1,10\n", "do not enclose"),
        (GOOD + "2019-01-02T00:00:00Z,1,2,0.5,1,10\n", "not in the order"),
    ],
)
def test_a_file_that_was_put_there_by_hand_and_is_no_dataset_is_told_in_a_sentence(
    tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "HAND").mkdir()
    (tmp_path / "HAND/1d.csv").write_text(content)
    with pytest.raises(InvalidParameters, match=words) as caught:
        read_bars(tmp_path, "HAND", "1d")
    assert "ktrdr data import" in str(caught.value.hint)
