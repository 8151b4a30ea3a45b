"""What comes in is checked line by line; what is there is listed."""

from __future__ import annotations

import contextlib
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.errors import KtrdrError, UsageError
from ktrdr.marketdata.catalogue import HEADER, dataset_path, import_csv, list_datasets

GOOD = (
    "Date,Open,High,Low,Close,Adj Close,Volume\n"
    "1/4/1999,10,12,9,11,11,100\n"
    "1/5/1999,11,13,10,12,12,0\n"
)


def imported(text: str | bytes, root: Path) -> str:
    raw = text.encode() if isinstance(text, str) else text
    import_csv(io.BytesIO(raw), root, "SPX", "1d")
    return (root / "SPX" / "1d.csv").read_text()


def test_an_american_file_becomes_canonical_and_other_columns_are_ignored(tmp_path: Path) -> None:
    assert imported(GOOD, tmp_path).splitlines() == [
        HEADER,
        "1999-01-04T00:00:00Z,10.0,12.0,9.0,11.0,100.0",
        "1999-01-05T00:00:00Z,11.0,13.0,10.0,12.0,0.0",
    ]


@pytest.mark.parametrize(
    "text",
    [
        gzip.compress(GOOD.encode(), mtime=0),
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        "\ufeff" + GOOD.replace("\n", "\r\n"),
        GOOD.upper(),
        GOOD.replace("1/4/1999", "1999-01-04").replace("1/5/1999", "1999-01-05T02:00:00+02:00"),
        GOOD.replace("1/4/1999", "915408000").replace("1/5/1999", "915494400"),
    ],
)
def test_the_same_bars_come_out_however_they_were_written(
    text: str | bytes, tmp_path: Path
) -> None:
    assert imported(text, tmp_path) == imported(GOOD, tmp_path)


def test_every_kind_of_fault_is_named_with_its_line_and_nothing_is_left(tmp_path: Path) -> None:
    rows = [
        "2020-01-01,1,2,0.5,1,1",
        "2020-01-01,1,2,0.5,1,1",
        "2019-12-31,1,2,0.5,1,1",
        "2020-01-04,nan,2,0.5,1,1",
        "2020-01-05,1,2,0,1,1",
        "2020-01-06,1,1.5,0.5,1.6,1",
    ]
    with pytest.raises(UsageError) as caught:
        imported("date,open,high,low,close,volume\n" + "\n".join(rows), tmp_path)
    for sign in (
        "line 3",
        "twice",
        "line 4",
        "out of order",
        "line 5",
        "finite",
        "line 6",
        "line 7",
    ):
        assert sign in caught.value.message
    assert not list(tmp_path.rglob("*.csv"))


def test_a_bad_file_leaves_the_dataset_as_it_was(tmp_path: Path) -> None:
    before = imported(GOOD, tmp_path)
    with pytest.raises(UsageError, match="header lacks"):
        imported("a,b\n1,2\n", tmp_path)
    assert (tmp_path / "SPX" / "1d.csv").read_text() == before


@pytest.mark.parametrize(
    "text", ["", "Date,Open,High,Low,Close\n", b"\x1f\x8bnot gzip", b"\xff\xfe,"]
)
def test_files_that_hold_no_bars_are_refused_in_words(text: str | bytes, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        imported(text, tmp_path)


@given(st.text(max_size=80))
def test_no_name_leads_out_of_the_directory(name: str) -> None:
    try:
        path = dataset_path(Path("/data"), name, "1d")
    except UsageError:
        return
    assert path.parent.parent == Path("/data")
    assert ".." not in path.parts


@given(st.binary(max_size=300))
def test_any_bytes_give_a_dataset_or_a_sentence(tmp_path_factory, content: bytes) -> None:
    root = tmp_path_factory.mktemp("data")
    with contextlib.suppress(KtrdrError):
        import_csv(io.BytesIO(content), root, "X", "1d")


def test_the_list_tells_what_each_dataset_holds(tmp_path: Path) -> None:
    imported(GOOD, tmp_path)
    (found,) = list_datasets(tmp_path)
    assert (found.symbol, found.timeframe, found.bars) == ("SPX", "1d", 2)
    assert (found.first.day, found.last.day) == (4, 5)


def test_a_file_that_is_no_dataset_hides_no_other(tmp_path: Path) -> None:
    import_csv(
        io.BytesIO(b"date,open,high,low,close\n2020-01-01,1,2,1,2\n"), tmp_path, "GOOD", "1d"
    )
    (tmp_path / "BAD").mkdir()
    (tmp_path / "BAD/1d.csv").write_text("nothing of use")
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "EMPTY/1d.csv").touch()
    assert [each.symbol for each in list_datasets(tmp_path)] == ["GOOD"]
