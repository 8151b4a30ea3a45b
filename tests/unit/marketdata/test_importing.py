"""Imports validate all rows, and repair them only on request."""

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
from ktrdr.marketdata.row_cleaner import REPAIR_OF
from ktrdr.schemas.data import Delimiter, Repair, RowFaultKind
from tests.thoroughness import examples
from tests.unit.marketdata.files import all_repairs, csv_table, import_text, stored_rows

EXCERPT = Path(__file__).parents[2] / "data" / "sp500_2007_2009.csv"
GOOD = (
    "Date,Open,High,Low,Close,Adj Close,Volume\n"
    "1/14/1999,10,12,9,11,11,100\n"
    "1/15/1999,11,13,10,12,12,0\n"
)
CANONICAL = ["1999-01-14T00:00:00Z,10.0,12.0,9.0,11.0,100.0"]
CANONICAL += ["1999-01-15T00:00:00Z,11.0,13.0,10.0,12.0,0.0"]


def test_a_vendor_file_is_stored_with_all_digits(tmp_path: Path) -> None:
    import_text(EXCERPT.read_bytes(), tmp_path)
    with EXCERPT.open(encoding="utf-8", newline="") as file:
        expected = list(csv.DictReader(file))
    actual = [row.split(",") for row in stored_rows(tmp_path)]
    assert len(actual) == len(expected) == 600
    for cells, row in zip(actual, expected, strict=True):
        month, day, year = row["Date"].split("/")
        assert cells[0] == f"{year}-{month:>02}-{day:>02}T00:00:00Z"
        assert [float(value) for value in cells[1:]] == [
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
def test_equal_bars_in_different_formats_are_stored_equally(
    text: str | bytes, tmp_path: Path
) -> None:
    import_text(text, tmp_path)
    assert stored_rows(tmp_path) == CANONICAL


def test_date_and_time_of_day_in_two_columns_are_one_time(tmp_path: Path) -> None:
    header = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<SPREAD>"
    import_text(
        csv_table("2020.01.31\t14:30:00\t1\t2\t1\t2\t7\t0", header=header), tmp_path, timeframe="1m"
    )
    assert stored_rows(tmp_path, timeframe="1m") == ["2020-01-31T14:30:00Z,1.0,2.0,1.0,2.0,7.0"]


def test_decimal_commas_are_read_on_request(tmp_path: Path) -> None:
    text = "date;open;high;low;close\n2020-01-31;1,5;2,5;1;2\n"
    with pytest.raises(UsageError, match="line 2: '1,5' is not a number"):
        import_text(text, tmp_path)
    import_text(text, tmp_path, decimal="comma")
    assert stored_rows(tmp_path) == ["2020-01-31T00:00:00Z,1.5,2.5,1.0,2.0,0.0"]


ROW = "1,2,0.5,1,1"
GOOD_ROW = f"2020-01-20,{ROW}"
# A faulty row in line 3, after a valid one of 20 January.
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
    (
        RowFaultKind.OUT_OF_ORDER,
        f"2020-01-19,{ROW}",
        "2020-01-19T00:00:00Z is earlier than a previous row",
    ),
    (RowFaultKind.DUPLICATE, GOOD_ROW, "appears twice, with the same bar as in line 2"),
    (RowFaultKind.CONFLICT, "2020-01-20,1,2,0.5,1.5,1", "with different values than in line 2"),
]


@pytest.mark.parametrize(("kind", "row", "message"), FAULTS)
def test_a_fault_is_rejected_with_its_line_even_with_all_other_repairs(
    kind: RowFaultKind, row: str, message: str, tmp_path: Path
) -> None:
    text = csv_table(GOOD_ROW, row, f"2020-01-22,{ROW}")
    others = all_repairs(REPAIR_OF[kind], *([Repair.DROP_BAD] if kind == "not-enclosed" else []))
    with pytest.raises(UsageError, match="line 3: ") as caught:
        import_text(text, tmp_path, repair=others)
    assert message in caught.value.message
    assert f"--repair {REPAIR_OF[kind]}" in str(caught.value.hint)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    (fault,) = import_text(text, tmp_path, repair=others, dry_run=True).faults
    assert (fault.kind, fault.count, fault.lines, fault.repair) == (kind, 1, [3], None)


@pytest.mark.parametrize(("kind", "row", "message"), FAULTS)
def test_a_fault_is_repaired_by_the_repair_that_its_error_suggests(
    kind: RowFaultKind, row: str, message: str, tmp_path: Path
) -> None:
    text = csv_table(GOOD_ROW, row, f"2020-01-22,{ROW}")
    report = import_text(text, tmp_path, repair=[REPAIR_OF[kind]])
    (fault,) = report.repairs
    assert (fault.kind, fault.count, fault.lines) == (kind, 1, [3])
    assert fault.repair is REPAIR_OF[kind]
    assert (report.accepted, report.rows_read, report.faults) == (True, 3, [])
    assert report.bars == len(stored_rows(tmp_path))


@pytest.mark.parametrize(
    ("repair", "row", "rows"),
    [
        ("sort", "2020-01-19,3,4,3,4,5", ["19T00:00:00Z,3.0,4.0,3.0,4.0,5.0", "20"]),
        ("drop-duplicates", "2020-01-20,3,4,3,4,5", ["20T00:00:00Z,3.0,4.0,3.0,4.0,5.0"]),
        ("drop-bad", "2020-01-21,3,4,3,nan,5", ["20"]),
        ("drop-bad", "2020-01-21,3,4,3,5,5", ["20"]),
        ("widen", "2020-01-21,3,4,3.5,5,5", ["20", "21T00:00:00Z,3.0,5.0,3.0,5.0,5.0"]),
    ],
)
def test_a_repair_changes_only_the_faulty_rows(
    repair: str, row: str, rows: list[str], tmp_path: Path
) -> None:
    import_text(csv_table(GOOD_ROW, row, f"2020-01-22,{ROW}"), tmp_path, repair=[repair])
    lines = stored_rows(tmp_path)
    assert len(lines) == len(rows) + 1
    for line, start in zip(lines, [*rows, "22"], strict=True):
        assert line.startswith(f"2020-01-{start}")


def test_all_kinds_of_faults_are_counted_and_reported_with_their_first_lines(
    tmp_path: Path,
) -> None:
    rows = [GOOD_ROW, *["2020-01-21,1,2,0.5,x,1"] * 50, "2020-01-01,1,2,0.5,1,1"]
    with pytest.raises(UsageError) as caught:
        import_text(csv_table(*rows), tmp_path)
    assert "50 rows with an unreadable value (line 3, 4, 5, 6, 7 and more" in str(caught.value)
    assert "line 53: 2020-01-01T00:00:00Z is earlier" in caught.value.message
    assert caught.value.hint is not None
    assert "--repair drop-bad --repair sort" in caught.value.hint


def test_empty_lines_count_only_for_the_line_numbers(tmp_path: Path) -> None:
    assert import_text(f"{csv_table('', GOOD_ROW)}\n\n", tmp_path).rows_read == 1
    with pytest.raises(UsageError, match=r"line 5: .* in line 3"):
        import_text(csv_table("", GOOD_ROW, "", GOOD_ROW), tmp_path)


def test_a_dry_run_reports_everything_and_writes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "data"
    valid = import_text(GOOD, root, dry_run=True, repair=["sort"])
    assert (valid.accepted, valid.bars, valid.dataset, valid.date_format) == (True, 2, None, "mdy")
    invalid = import_text(GOOD.replace("12,9", "12,0"), root, dry_run=True)
    assert not invalid.accepted
    assert [fault.kind for fault in invalid.faults] == ["not-positive"]
    assert not list(tmp_path.iterdir())


def test_gaps_are_reported_or_rejected_as_requested(tmp_path: Path) -> None:
    text = csv_table(GOOD_ROW, f"2020-02-03,{ROW}")
    gaps = import_text(text, tmp_path).gaps
    assert (gaps.count, gaps.missing_bars, gaps.first[0].line) == (1, 9, 3)
    with pytest.raises(UsageError, match="1 with 9 missing bars, before line 3") as caught:
        import_text(text, tmp_path, gaps="refuse")
    assert "--gaps report" in str(caught.value.hint)


def test_an_invalid_file_leaves_the_dataset_unchanged(tmp_path: Path) -> None:
    import_text(GOOD, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for invalid in ("a,b\n1,2\n", GOOD + "x\n", GOOD.encode() + b"\xff"):
        with pytest.raises(UsageError):
            import_text(invalid, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


BROKEN_GZIP = bytearray(gzip.compress(GOOD.encode(), mtime=0))
# Compressed data has no block of this type.
BROKEN_GZIP[10] = 0xFF


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("Date,Open,High,Low,Close\n", "a header but no bars"),
        ("\n\n", "header lacks"),
        ("a,b\n1,2\n", "header lacks timestamp.*; it has a, b"),
        ("date,open,high,low,volume\n1,2,3,4,5\n", "header lacks close; it has date"),
        ("date,open,open,high,low,close\n", "contains open twice"),
        (b"\x1f\x8bnot gzip", "neither UTF-8 CSV text nor gzip"),
        (bytes(BROKEN_GZIP), "neither UTF-8 CSV text nor gzip"),
        (gzip.compress(GOOD.encode(), mtime=0)[:-9], "neither UTF-8 CSV text nor gzip"),
        (b"\xff\xfe,", "neither UTF-8 CSV text nor gzip"),
        (GOOD.encode("utf-16"), "neither UTF-8 CSV text nor gzip"),
        (csv_table(f'"{GOOD_ROW}', *[GOOD_ROW] * 9000), "cannot be read as CSV"),
        ("x" * 70_000, "longer than 64 KB"),
        (csv_table("only"), "there is no time|not a time"),
    ],
)
def test_a_file_that_is_not_a_table_of_bars_is_rejected_with_the_reason(
    text: str | bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        import_text(text, tmp_path)
    assert caught.value.hint


def test_a_small_gzip_file_with_a_huge_line_is_rejected(tmp_path: Path) -> None:
    bomb = gzip.compress(b"date,open,high,low,close\n" + b"1" * 50_000_000)
    assert len(bomb) < 100_000
    with pytest.raises(UsageError, match="line 2 is longer"):
        import_text(bomb, tmp_path)


def test_a_directory_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "SPX").touch()
    with pytest.raises(HostNotReady, match="cannot be written") as caught:
        import_text(GOOD, tmp_path)
    assert "space and owner" in str(caught.value.hint)
    with pytest.raises(HostNotReady, match="No such file"):
        import_text(GOOD, tmp_path / "not" / "mounted")


def test_the_provenance_is_stored_beside_the_dataset(tmp_path: Path) -> None:
    report = import_text(GOOD, tmp_path, source="sp.csv")
    (path,) = (tmp_path / "SPX").glob(".1d.*.json")
    provenance = json.loads(path.read_text())
    assert (provenance["source"], provenance["imported_by"]) == ("sp.csv", "ada")
    assert report.dataset is not None
    assert provenance["report"]["dataset"]["data_hash"] == report.dataset.data_hash


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(gzip.compress)))
def test_any_bytes_give_a_dataset_or_an_error(tmp_path_factory, content: bytes) -> None:
    with contextlib.suppress(KtrdrError):
        import_text(content, tmp_path_factory.mktemp("data"), repair=all_repairs())


CELLS = st.sampled_from(
    ["2020-01-20", "1/20/2020", "20.1.2020", "1579478400", "x", "", "nan", "-1", "1", "2", '"', "٣"]
)


@settings(deadline=None)
@given(
    st.lists(st.lists(CELLS, min_size=3, max_size=7), max_size=8),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sets(st.sampled_from(list(Repair))),
)
def test_any_table_gives_valid_bars_in_ascending_order_or_an_error(
    tmp_path_factory, rows: list[list[str]], delimiter: str, repairs: set[Repair]
) -> None:
    root = tmp_path_factory.mktemp("data")
    lines = ["date,open,high,low,close,volume".replace(",", delimiter)]
    text = "\n".join([*lines, *(delimiter.join(row) for row in rows)])
    try:
        report = import_text(text, root, repair=sorted(repairs))
    except UsageError:
        assert not list(root.glob("*/*.csv"))
        return
    rows = [row.split(",") for row in stored_rows(root)]
    assert len(rows) == report.bars
    times = [row[0] for row in rows]
    assert times == sorted(set(times))
    for row in rows:
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


@settings(deadline=None, max_examples=examples(10))
@given(
    values=bars,
    delimiter=st.sampled_from(list(Delimiter)),
    zipped=st.booleans(),
    order=st.randoms(),
)
@pytest.mark.parametrize("date_format", WRITTEN)
def test_bars_in_any_format_are_stored_exactly(
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
        numbers = [repr(value) for value in (a, max(a, b, c, d), min(a, b, c, d), d, volume)]
        rows.append(DELIMITERS[delimiter].join([time.strftime(shown), *numbers]))
        expected.append(",".join([f"{time:%Y-%m-%dT%H:%M:%SZ}", *numbers]))
    order.shuffle(rows)
    header = DELIMITERS[delimiter].join(("Date", "Open", "High", "Low", "Close", "Volume"))
    raw = csv_table(*rows, header=header).encode()
    chosen = {"date_format": date_format} if "%" in date_format else {}
    report = import_text(gzip.compress(raw) if zipped else raw, root, repair=["sort"], **chosen)
    assert stored_rows(root) == expected
    assert (report.date_format, report.delimiter) == (date_format, delimiter)


class Endless(io.RawIOBase):
    """Generated file with a given number of bars."""

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


def peak_memory(rows: int, root: Path) -> int:
    tracemalloc.start()
    try:
        report = import_csv(Endless(rows), root, "BIG", "1m")
        assert report.bars == rows
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_memory_of_an_import_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peak_memory(500, tmp_path)
    # A smaller file is not read in parts.
    small, large = peak_memory(5_000, tmp_path), peak_memory(10_000, tmp_path)
    assert large < 1.1 * small


def test_an_error_about_a_long_row_stays_short(tmp_path: Path) -> None:
    for rows in (
        [f"{'9' * 60_000},1,2,1,2,3"],
        [GOOD_ROW, f"{'9' * 60_000},1,2,1,2,3"],
        [GOOD_ROW, f"2020-01-21,1,2,1,2,{'x' * 60_000}"],
    ):
        with pytest.raises(UsageError, match=r"line \d: ") as caught:
            import_text(csv_table(*rows), tmp_path)
        assert len(caught.value.message) < 300
