"""Datasets are listed without being read, and changes by hand are detected."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.errors import HostNotReady, InvalidParameters, NotFound, UsageError
from ktrdr.marketdata.catalogue import (
    dataset_path,
    delete_dataset,
    describe_datasets,
    list_datasets,
    require_dataset,
)
from tests.unit.marketdata.files import NOW, csv_table, import_text

GOOD = csv_table("2020-01-20,1,2,1,2,3", "2020-01-21,1,2,1,2,3")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    import_text(GOOD, tmp_path, source="a.csv")
    return tmp_path


HOSTILE = ["..", ".", "", "a/b", "../x", "/etc", "a\\b", ".hidden", "x" * 65, "a\0", "a\n", "é"]


@given(st.one_of(st.text(max_size=80), st.sampled_from(HOSTILE)))
def test_no_name_leads_out_of_the_directory(name: str) -> None:
    for symbol, timeframe in ((name, "1d"), ("X", name)):
        try:
            path = dataset_path(Path("/data"), symbol, timeframe)
        except UsageError:
            continue
        assert path.parent.parent == Path("/data")
        assert path == Path(os.path.normpath(path))
        assert not path.name.startswith(".")
        assert str(path).isascii()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_rejected_by_all_functions(root: Path, name: str) -> None:
    for symbol, timeframe in ((name, "1d"), ("SPX", name)):
        with pytest.raises(UsageError, match=r"cannot be the name|is not the length"):
            dataset_path(root, symbol, timeframe)
        with pytest.raises(UsageError):
            import_text(GOOD, root, symbol, timeframe)
        with pytest.raises(UsageError):
            delete_dataset(root, symbol, timeframe)
    with pytest.raises(UsageError):
        describe_datasets(root, name)


def test_the_list_describes_the_datasets(root: Path) -> None:
    (dataset,) = list_datasets(root)
    content = (root / "SPX" / "1d.csv").read_bytes()
    assert (dataset.symbol, dataset.timeframe, dataset.bars, dataset.state) == (
        "SPX",
        "1d",
        2,
        "imported",
    )
    assert (dataset.first.day, dataset.last.day) == (20, 21)
    assert dataset.data_hash == hashlib.sha256(content).hexdigest()
    assert (dataset.size_bytes, dataset.path) == (len(content), "data/SPX/1d.csv")


def test_listing_does_not_open_the_files_of_imported_datasets(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = Path.open

    def open_recorded(path: Path, *args, **kwargs):
        opened.append(path.suffix)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_recorded)
    assert len(list_datasets(root)) == 1
    assert ".csv" not in opened
    assert ".bars" not in opened


def test_a_file_added_by_hand_is_read_again_when_it_changes(
    tmp_path: Path,
) -> None:
    (tmp_path / "HAND").mkdir()
    path = tmp_path / "HAND" / "1d.csv"
    path.write_text("timestamp,open,high,low,close,volume\n2020-01-01T00:00:00Z,1,2,1,2,3")
    (first,) = describe_datasets(tmp_path, "HAND")
    assert (first.dataset.state, first.dataset.bars, first.provenance) == ("by hand", 1, None)
    path.write_text(path.read_text() + "\n2020-01-02T00:00:00Z,1,2,1,2,3\n")
    (second,) = describe_datasets(tmp_path, "HAND")
    assert second.dataset.bars == 2
    assert second.dataset.data_hash == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_change_by_hand_is_detected_even_if_size_and_line_count_are_equal(
    root: Path,
) -> None:
    path = root / "SPX" / "1d.csv"
    before = describe_datasets(root, "SPX", "1d")[0]
    path.write_text(path.read_text().replace("1.0,2.0", "1.5,2.0", 1))
    after = describe_datasets(root, "SPX", "1d")[0]
    assert (before.dataset.state, after.dataset.state) == ("imported", "changed")
    assert before.dataset.size_bytes == after.dataset.size_bytes
    assert after.dataset.data_hash == hashlib.sha256(path.read_bytes()).hexdigest()
    assert after.dataset.data_hash != before.dataset.data_hash
    assert after.provenance is None


def test_a_copy_of_a_dataset_keeps_its_provenance(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "SPX", root / "COPY")
    (details,) = describe_datasets(root, "COPY")
    assert (details.dataset.symbol, details.dataset.state) == ("COPY", "imported")
    assert details.provenance is not None
    assert (details.provenance.imported_by, details.provenance.imported_at) == ("ada", NOW)


def test_invalid_files_do_not_hide_datasets(root: Path) -> None:
    for name, content in {
        "BAD": "nothing of use",
        "EMPTY": "",
        "HALF": "timestamp\n",
        "NOISE": "\x00" * 9,
    }.items():
        (root / name).mkdir()
        (root / name / "1d.csv").write_text(content)
    (root / "DIRECTORY" / "1d.csv").mkdir(parents=True)
    assert [dataset.symbol for dataset in list_datasets(root)] == ["SPX"]


@pytest.mark.parametrize(
    ("symbol", "timeframe", "hint"),
    [
        ("SPY", "1d", "Did you mean SPX? Available: SPX 1d."),
        ("spx", "1d", "Did you mean SPX?"),
        ("SPX", "1h", "Available: SPX 1d."),
        ("QQQQ", None, "Available: SPX 1d."),
    ],
)
def test_a_missing_dataset_is_reported_with_the_existing_ones(
    root: Path, symbol: str, timeframe: str | None, hint: str
) -> None:
    with pytest.raises(NotFound, match=f"there is no data for {symbol}") as caught:
        describe_datasets(root, symbol, timeframe)
    assert str(caught.value.hint).startswith(hint)
    with pytest.raises(NotFound):
        delete_dataset(root, symbol, timeframe or "1d")


def test_a_deleted_dataset_leaves_no_files_and_others_stay(root: Path) -> None:
    import_text(GOOD, root, timeframe="1w")
    delete_dataset(root, "SPX", "1d")
    assert [dataset.timeframe for dataset in list_datasets(root)] == ["1w"]
    left = [path.name for path in (root / "SPX").iterdir()]
    assert not [name for name in left if name.lstrip(".").startswith("1d")]
    delete_dataset(root, "SPX", "1w")
    assert [path.name for path in root.iterdir()] == [".lock"]


def test_a_dataset_that_cannot_be_deleted_is_reported(root: Path) -> None:
    (root / ".lock").unlink()
    (root / ".lock").mkdir()
    with pytest.raises(HostNotReady, match="cannot be removed"):
        delete_dataset(root, "SPX", "1d")
    assert len(list_datasets(root)) == 1


def test_a_symbol_without_data_is_refused_with_the_closest_one(root: Path) -> None:
    require_dataset(root, "SPX", "1d")
    with pytest.raises(InvalidParameters, match="there is no data for SPY 1d") as refused:
        require_dataset(root, "SPY", "1d")
    assert refused.value.hint == "Did you mean SPX? Available: SPX 1d."
    with pytest.raises(InvalidParameters, match="there is no data for SPX 1h") as refused:
        require_dataset(root, "SPX", "1h")
    assert refused.value.hint == "Available: SPX 1d."


def test_a_share_without_any_data_refuses_no_symbol(tmp_path: Path) -> None:
    require_dataset(tmp_path, "SPX", "1d")
    require_dataset(tmp_path / "away", "SPX", "1d")
