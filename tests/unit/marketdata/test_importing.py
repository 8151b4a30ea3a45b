"""What comes in is checked line by line, and mended only where that was asked for."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import itertools
import json
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.errors import HostNotReady, KtrdrError, UsageError
from ktrdr.marketdata.dialect import DELIMITERS
from ktrdr.marketdata.importing import import_csv
from ktrdr.marketdata.repairs import REPAIR_OF
from ktrdr.schemas.data import Delimiter, Repair, RowFaultKind
from tests.unit.marketdata.files import all_repairs, bring_in, stored, table

EXCERPT = Path(__file__).parents[2] / "data" / "sp500_2007_2009.csv"
GOOD = (
    "Date,Open,High,Low,Close,Adj Close,Volume\n"
    "1/14/1999,10,12,9,11,11,100\n"
    "1/15/1999,11,13,10,12,12,0\n"
)
CANONICAL = ["1999-01-14T00:00:00Z,10.0,12.0,9.0,11.0,100.0"]
CANONICAL += ["1999-01-15T00:00:00Z,11.0,13.0,10.0,12.0,0.0"]


def test_a_file_as_vendors_write_it_is_kept_to_the_last_figure(tmp_path: Path) -> None:
    bring_in(EXCERPT.read_bytes(), tmp_path)
    with EXCERPT.open(encoding="utf-8", newline="") as file:
        expected = list(csv.DictReader(file))
    kept = [row.split(",") for row in stored(tmp_path)]
    assert len(kept) == len(expected) == 600
    for found, row in zip(kept, expected, strict=True):
        month, day, year = row["Date"].split("/")
        assert found[0] == f"{year}-{month:>02}-{day:>02}T00:00:00Z"
        assert [float(each) for each in found[1:]] == [
            float(row[name]) for name in ("Open", "High", "Low", "Close", "Volume")
        ]


def rewritten(first: str, second: str) -> str:
    return GOOD.replace("1/14/1999", first).replace("1/15/1999", second)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        gzip.compress(GOOD.encode(), mtime=0),
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        GOOD.replace(",", "|"),
        "\ufeff" + GOOD.replace("\n", "\r\n"),
        GOOD.upper(),
        rewritten("1999-01-14", "1999-01-15T02:00:00+02:00"),
        rewritten("14.1.1999", "15.1.1999"),
        rewritten("14/01/1999 00:00", "15/01/1999 00:00:00"),
        rewritten("1/14/1999 12:00 AM", "1/15/1999 12:00 am"),
        rewritten("19990114", "19990115"),
        rewritten("1999.01.14 00:00", "1999.01.15 00:00"),
        rewritten("19990114 000000", "19990115 000000"),
        rewritten("916272000", "916358400"),
        rewritten("916272000000", "916358400000"),
        rewritten('"1/14/1999"', '"1/15/1999"'),
    ],
)
def test_the_same_bars_come_out_however_they_were_written(
    text: str | bytes, tmp_path: Path
) -> None:
    bring_in(text, tmp_path)
    assert stored(tmp_path) == CANONICAL


def test_date_and_clock_in_two_columns_are_one_time(tmp_path: Path) -> None:
    header = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<SPREAD>"
    bring_in(
        table("2020.01.31\t14:30:00\t1\t2\t1\t2\t7\t0", header=header), tmp_path, timeframe="1m"
    )
    assert stored(tmp_path, timeframe="1m") == ["2020-01-31T14:30:00Z,1.0,2.0,1.0,2.0,7.0"]


def test_decimal_commas_are_read_when_they_are_said_to_be_there(tmp_path: Path) -> None:
    text = "date;open;high;low;close\n2020-01-31;1,5;2,5;1;2\n"
    with pytest.raises(UsageError, match="line 2: '1,5' is not a number"):
        bring_in(text, tmp_path)
    bring_in(text, tmp_path, decimal="comma")
    assert stored(tmp_path) == ["2020-01-31T00:00:00Z,1.5,2.5,1.0,2.0,0.0"]


ROW = "1,2,0.5,1,1"
GOOD_ROW = f"2020-01-20,{ROW}"
# A row that is wrong after a good one of 20 January, in line 3, by what is wrong with it.
FAULTS = [
    (RowFaultKind.UNREADABLE, "2020-01-21,1,2,0.5,x,1", "'x' is not a number"),
    (RowFaultKind.UNREADABLE, "2020-01-21,1,2,0.5,,1", "'' is not a number"),
    (RowFaultKind.UNREADABLE, "2020-01-21,1_0,20,0.5,1,1", "'1_0' is not a number"),
    (RowFaultKind.UNREADABLE, "2020-01-21,1,2", "too few fields"),
    (RowFaultKind.UNREADABLE, f"yesterday,{ROW}", "'yesterday' is not a time"),
    (RowFaultKind.UNREADABLE, f"2020-02-30,{ROW}", "'2020-02-30' is not a time"),
    (RowFaultKind.UNREADABLE, f"1/21/2020,{ROW}", "'1/21/2020' is not a time"),
    (RowFaultKind.UNREADABLE, f"2020-01-21T00:00:00.5,{ROW}", "fractions of a second"),
    (RowFaultKind.UNREADABLE, f"0202-01-21,{ROW}", "not between the years"),
    (RowFaultKind.UNREADABLE, f"0001-01-01T00:00:00+23:00,{ROW}", ""),
    (RowFaultKind.NOT_FINITE, "2020-01-21,nan,2,0.5,1,1", "not a finite number"),
    (RowFaultKind.NOT_FINITE, "2020-01-21,1,inf,0.5,1,1", "not a finite number"),
    (RowFaultKind.NOT_FINITE, "2020-01-21,1,2,0.5,1,nan", "not a finite number"),
    (RowFaultKind.NOT_POSITIVE, "2020-01-21,1,2,0,1,1", "the price 0.0 is not positive"),
    (RowFaultKind.NOT_POSITIVE, "2020-01-21,1,2,-0.5,1,1", "the price -0.5 is not positive"),
    (RowFaultKind.NEGATIVE_VOLUME, "2020-01-21,1,2,0.5,1,-1", "the volume -1.0 is negative"),
    (RowFaultKind.CROSSED, "2020-01-21,1,0.5,2,1,1", "high 0.5 is below low 2.0"),
    (RowFaultKind.NOT_ENCLOSED, "2020-01-21,1,1.5,0.5,1.6,1", "do not enclose"),
    (RowFaultKind.OUT_OF_ORDER, f"2020-01-19,{ROW}", "2020-01-19T00:00:00Z is earlier than a row"),
    (RowFaultKind.DUPLICATE, GOOD_ROW, "stands twice, with the same bar as in line 2"),
    (RowFaultKind.CONFLICT, "2020-01-20,1,2,0.5,1.5,1", "with other values than in line 2"),
]


@pytest.mark.parametrize(("kind", "row", "words"), FAULTS)
def test_every_fault_is_refused_with_its_line_although_all_other_repairs_are_asked_for(
    kind: RowFaultKind, row: str, words: str, tmp_path: Path
) -> None:
    text = table(GOOD_ROW, row, f"2020-01-22,{ROW}")
    others = all_repairs(REPAIR_OF[kind], *([Repair.DROP_BAD] if kind == "not-enclosed" else []))
    with pytest.raises(UsageError, match="line 3: ") as caught:
        bring_in(text, tmp_path, repair=others)
    assert words in caught.value.message
    assert f"--repair {REPAIR_OF[kind]}" in str(caught.value.hint)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    (found,) = bring_in(text, tmp_path, repair=others, dry_run=True).faults
    assert (found.kind, found.count, found.lines, found.repair) == (kind, 1, [3], None)


@pytest.mark.parametrize(("kind", "row", "words"), FAULTS)
def test_every_fault_is_mended_by_the_repair_that_its_refusal_names(
    kind: RowFaultKind, row: str, words: str, tmp_path: Path
) -> None:
    text = table(GOOD_ROW, row, f"2020-01-22,{ROW}")
    report = bring_in(text, tmp_path, repair=[REPAIR_OF[kind]])
    (found,) = report.repairs
    assert (found.kind, found.count, found.lines) == (kind, 1, [3])
    assert found.repair is REPAIR_OF[kind]
    assert (report.accepted, report.rows_read, report.faults) == (True, 3, [])
    assert report.bars == len(stored(tmp_path))


@pytest.mark.parametrize(
    ("repair", "row", "kept"),
    [
        ("sort", "2020-01-19,3,4,3,4,5", ["19T00:00:00Z,3.0,4.0,3.0,4.0,5.0", "20"]),
        ("drop-duplicates", "2020-01-20,3,4,3,4,5", ["20T00:00:00Z,3.0,4.0,3.0,4.0,5.0"]),
        ("drop-bad", "2020-01-21,3,4,3,nan,5", ["20"]),
        ("drop-bad", "2020-01-21,3,4,3,5,5", ["20"]),
        ("widen", "2020-01-21,3,4,3.5,5,5", ["20", "21T00:00:00Z,3.0,5.0,3.0,5.0,5.0"]),
    ],
)
def test_a_repair_does_what_it_says_and_no_more(
    repair: str, row: str, kept: list[str], tmp_path: Path
) -> None:
    bring_in(table(GOOD_ROW, row, f"2020-01-22,{ROW}"), tmp_path, repair=[repair])
    found = stored(tmp_path)
    assert len(found) == len(kept) + 1
    for line, start in zip(found, [*kept, "22"], strict=True):
        assert line.startswith(f"2020-01-{start}")


def test_all_kinds_of_faults_are_counted_and_the_first_lines_of_each_are_named(
    tmp_path: Path,
) -> None:
    rows = [GOOD_ROW, *["2020-01-21,1,2,0.5,x,1"] * 50, "2020-01-01,1,2,0.5,1,1"]
    with pytest.raises(UsageError) as caught:
        bring_in(table(*rows), tmp_path)
    assert "50 rows with an unreadable value (line 3, 4, 5, 6, 7 and more" in str(caught.value)
    assert "line 53: 2020-01-01T00:00:00Z is earlier" in caught.value.message
    assert caught.value.hint is not None
    assert "--repair drop-bad --repair sort" in caught.value.hint


def test_empty_lines_count_for_the_line_numbers_and_for_nothing_else(tmp_path: Path) -> None:
    assert bring_in(f"{table('', GOOD_ROW)}\n\n", tmp_path).rows_read == 1
    with pytest.raises(UsageError, match=r"line 5: .* in line 3"):
        bring_in(table("", GOOD_ROW, "", GOOD_ROW), tmp_path)


def test_a_dry_run_tells_everything_and_writes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "data"
    good = bring_in(GOOD, root, dry_run=True, repair=["sort"])
    assert (good.accepted, good.bars, good.dataset, good.date_format) == (True, 2, None, "mdy")
    bad = bring_in(GOOD.replace("12,9", "12,0"), root, dry_run=True)
    assert not bad.accepted
    assert [each.kind for each in bad.faults] == ["not-positive"]
    assert not list(tmp_path.iterdir())


def test_gaps_are_told_or_refused_as_was_asked(tmp_path: Path) -> None:
    text = table(GOOD_ROW, f"2020-02-03,{ROW}")
    gaps = bring_in(text, tmp_path).gaps
    assert (gaps.count, gaps.missing_bars, gaps.first[0].line) == (1, 9, 3)
    with pytest.raises(UsageError, match="1 with 9 missing bars, before line 3") as caught:
        bring_in(text, tmp_path, gaps="refuse")
    assert "--gaps report" in str(caught.value.hint)


def test_a_bad_file_leaves_the_dataset_as_it_was(tmp_path: Path) -> None:
    bring_in(GOOD, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for bad in ("a,b\n1,2\n", GOOD + "x\n", GOOD.encode() + b"\xff"):
        with pytest.raises(UsageError):
            bring_in(bad, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


BROKEN_GZIP = bytearray(gzip.compress(GOOD.encode(), mtime=0))
# No block of compressed data is of this kind.
BROKEN_GZIP[10] = 0xFF


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("Date,Open,High,Low,Close\n", "a header but no bars"),
        ("\n\n", "header lacks"),
        ("a,b\n1,2\n", "header lacks timestamp.*; it has a, b"),
        ("date,open,high,low,volume\n1,2,3,4,5\n", "header lacks close; it has date"),
        ("date,open,open,high,low,close\n", "names open twice"),
        (b"\x1f\x8bnot gzip", "neither CSV text in UTF-8 nor gzip"),
        (bytes(BROKEN_GZIP), "neither CSV text in UTF-8 nor gzip"),
        (gzip.compress(GOOD.encode(), mtime=0)[:-9], "neither CSV text in UTF-8 nor gzip"),
        (b"\xff\xfe,", "neither CSV text in UTF-8 nor gzip"),
        (GOOD.encode("utf-16"), "neither CSV text in UTF-8 nor gzip"),
        (table(f'"{GOOD_ROW}', *[GOOD_ROW] * 9000), "cannot be read as CSV"),
        ("x" * 70_000, "longer than 64 KB"),
        (table("only"), "there is no time|not a time"),
    ],
)
def test_what_is_no_table_of_bars_is_refused_in_words(
    text: str | bytes, words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        bring_in(text, tmp_path)
    assert caught.value.hint


def test_a_small_gzip_file_cannot_fill_the_memory_with_one_line(tmp_path: Path) -> None:
    bomb = gzip.compress(b"date,open,high,low,close\n" + b"1" * 50_000_000)
    assert len(bomb) < 100_000
    with pytest.raises(UsageError, match="line 2 is longer"):
        bring_in(bomb, tmp_path)


def test_a_place_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "SPX").touch()
    with pytest.raises(HostNotReady, match="cannot be written") as caught:
        bring_in(GOOD, tmp_path)
    assert "space and owner" in str(caught.value.hint)
    with pytest.raises(HostNotReady, match="No such file"):
        bring_in(GOOD, tmp_path / "not" / "mounted")


def test_where_a_dataset_came_from_is_written_down_beside_it(tmp_path: Path) -> None:
    report = bring_in(GOOD, tmp_path, source="sp.csv")
    (path,) = (tmp_path / "SPX").glob(".1d.*.json")
    history = json.loads(path.read_text())
    assert (history["source"], history["imported_by"]) == ("sp.csv", "ada")
    assert report.dataset is not None
    assert history["report"]["dataset"]["data_hash"] == report.dataset.data_hash


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(gzip.compress)))
def test_any_bytes_give_a_dataset_or_a_sentence(tmp_path_factory, content: bytes) -> None:
    with contextlib.suppress(KtrdrError):
        bring_in(content, tmp_path_factory.mktemp("data"), repair=all_repairs())


CELLS = st.sampled_from(
    ["2020-01-20", "1/20/2020", "20.1.2020", "1579478400", "x", "", "nan", "-1", "1", "2", '"', "٣"]
)


@settings(deadline=None)
@given(
    st.lists(st.lists(CELLS, min_size=3, max_size=7), max_size=8),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sets(st.sampled_from(list(Repair))),
)
def test_any_table_gives_ascending_possible_bars_or_a_sentence(
    tmp_path_factory, rows: list[list[str]], delimiter: str, repairs: set[Repair]
) -> None:
    root = tmp_path_factory.mktemp("data")
    lines = ["date,open,high,low,close,volume".replace(",", delimiter)]
    text = "\n".join([*lines, *(delimiter.join(row) for row in rows)])
    try:
        report = bring_in(text, root, repair=sorted(repairs))
    except UsageError:
        assert not list(root.glob("*/*.csv"))
        return
    kept = [row.split(",") for row in stored(root)]
    assert len(kept) == report.bars
    times = [row[0] for row in kept]
    assert times == sorted(set(times))
    for row in kept:
        first, high, low, last, volume = map(float, row[1:])
        assert 0 < low <= min(first, last) <= max(first, last) <= high
        assert volume >= 0


prices = st.floats(0.01, 1e6)
bars = st.lists(st.tuples(prices, prices, prices, prices, st.floats(0, 1e12)), min_size=13)
BEGIN = datetime(2001, 1, 1, tzinfo=UTC)
WRITTEN = {
    "iso": "%Y-%m-%dT%H:%M:%SZ",
    "ymd": "%Y%m%d %H%M%S",
    "mdy": "%m/%d/%Y %H:%M:%S",
    "dmy": "%d.%m.%Y %H:%M",
    "epoch": "%s",
    "epoch-ms": "%s000",
    "%d-%b-%Y %H:%M": "%d-%b-%Y %H:%M",
}


@settings(deadline=None, max_examples=10)
@given(
    values=bars,
    delimiter=st.sampled_from(list(Delimiter)),
    zipped=st.booleans(),
    order=st.randoms(),
)
@pytest.mark.parametrize("date_format", WRITTEN)
def test_bars_that_were_written_come_back_exactly(
    tmp_path_factory,
    date_format: str,
    values: list[tuple[float, ...]],
    delimiter: Delimiter,
    zipped: bool,
    order,
) -> None:
    root = tmp_path_factory.mktemp("data")
    rows, expected = [], []
    for number, (a, b, c, d, volume) in enumerate(values):
        time = BEGIN + timedelta(days=number)
        shown = WRITTEN[date_format].replace("%s", str(int(time.timestamp())))
        numbers = [repr(each) for each in (a, max(a, b, c, d), min(a, b, c, d), d, volume)]
        rows.append(DELIMITERS[delimiter].join([time.strftime(shown), *numbers]))
        expected.append(",".join([f"{time:%Y-%m-%dT%H:%M:%SZ}", *numbers]))
    order.shuffle(rows)
    header = DELIMITERS[delimiter].join(("Date", "Open", "High", "Low", "Close", "Volume"))
    raw = table(*rows, header=header).encode()
    chosen = {"date_format": date_format} if "%" in date_format else {}
    report = bring_in(gzip.compress(raw) if zipped else raw, root, repair=["sort"], **chosen)
    assert stored(root) == expected
    assert (report.date_format, report.delimiter) == (date_format, delimiter)


class Endless(io.RawIOBase):
    """A file of so many bars that exists nowhere."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._lines: Iterator[bytes] = iter(())

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        days = (BEGIN + timedelta(minutes=n) for n in range(self._rows))
        body = (f"{time:%Y-%m-%d %H:%M},1.5,2.5,1.5,2.5,7\n".encode() for time in days)
        self._lines = itertools.chain([b"date,open,high,low,close,volume\n"], body)
        return 0

    def read(self, size: int = -1, /) -> bytes:
        return b"".join(itertools.islice(self._lines, 100))

    read1 = read


def most_memory(rows: int, root: Path) -> int:
    tracemalloc.start()
    try:
        report = import_csv(Endless(rows), root, "BIG", "1m")
        assert report.bars == rows
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_memory_of_an_import_does_not_grow_with_the_file(tmp_path: Path) -> None:
    most_memory(5_000, tmp_path)
    small, large = most_memory(5_000, tmp_path), most_memory(25_000, tmp_path)
    assert large < 1.1 * small


def test_a_sentence_about_a_row_stays_short_however_long_the_row_is(tmp_path: Path) -> None:
    for rows in (
        [f"{'9' * 60_000},1,2,1,2,3"],
        [GOOD_ROW, f"{'9' * 60_000},1,2,1,2,3"],
        [GOOD_ROW, f"2020-01-21,1,2,1,2,{'x' * 60_000}"],
    ):
        with pytest.raises(UsageError, match=r"line \d: ") as caught:
            bring_in(table(*rows), tmp_path)
        assert len(caught.value.message) < 300
