"""What is there is listed without being read, and what was changed by hand is noticed."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.errors import HostNotReady, NotFound, UsageError
from ktrdr.marketdata.catalogue import dataset_path, describe, list_datasets, remove
from tests.unit.marketdata.files import NOW, bring_in, table

GOOD = table("2020-01-20,1,2,1,2,3", "2020-01-21,1,2,1,2,3")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    bring_in(GOOD, tmp_path, source="a.csv")
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
def test_hostile_names_are_refused_wherever_a_name_is_taken(root: Path, name: str) -> None:
    for symbol, timeframe in ((name, "1d"), ("SPX", name)):
        with pytest.raises(UsageError, match=r"cannot be the name|is not the length"):
            dataset_path(root, symbol, timeframe)
        with pytest.raises(UsageError):
            bring_in(GOOD, root, symbol, timeframe)
        with pytest.raises(UsageError):
            remove(root, symbol, timeframe)
    with pytest.raises(UsageError):
        describe(root, name)


def test_the_list_tells_what_each_dataset_holds(root: Path) -> None:
    (found,) = list_datasets(root)
    content = (root / "SPX" / "1d.csv").read_bytes()
    assert (found.symbol, found.timeframe, found.bars, found.state) == ("SPX", "1d", 2, "imported")
    assert (found.first.day, found.last.day) == (20, 21)
    assert found.data_hash == hashlib.sha256(content).hexdigest()
    assert (found.size_bytes, found.path) == (len(content), "data/SPX/1d.csv")


def test_to_list_an_imported_dataset_its_file_is_not_opened(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = Path.open

    def watched(path: Path, *args, **kwargs):
        opened.append(path.suffix)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", watched)
    assert len(list_datasets(root)) == 1
    assert ".csv" not in opened
    assert ".bars" not in opened


def test_a_file_that_was_put_there_by_hand_is_read_once_and_again_when_it_changes(
    tmp_path: Path,
) -> None:
    (tmp_path / "HAND").mkdir()
    path = tmp_path / "HAND" / "1d.csv"
    path.write_text("timestamp,open,high,low,close,volume\n2020-01-01T00:00:00Z,1,2,1,2,3")
    (first,) = describe(tmp_path, "HAND")
    assert (first.dataset.state, first.dataset.bars, first.provenance) == ("by hand", 1, None)
    path.write_text(path.read_text() + "\n2020-01-02T00:00:00Z,1,2,1,2,3\n")
    (second,) = describe(tmp_path, "HAND")
    assert second.dataset.bars == 2
    assert second.dataset.data_hash == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_change_by_hand_is_noticed_although_neither_size_nor_line_count_differ(
    root: Path,
) -> None:
    path = root / "SPX" / "1d.csv"
    before = describe(root, "SPX", "1d")[0]
    path.write_text(path.read_text().replace("1.0,2.0", "1.5,2.0", 1))
    after = describe(root, "SPX", "1d")[0]
    assert (before.dataset.state, after.dataset.state) == ("imported", "changed")
    assert before.dataset.size_bytes == after.dataset.size_bytes
    assert after.dataset.data_hash == hashlib.sha256(path.read_bytes()).hexdigest()
    assert after.dataset.data_hash != before.dataset.data_hash
    assert after.provenance is None


def test_a_copy_of_the_directory_is_as_it_was_imported(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "SPX", root / "COPY")
    (found,) = describe(root, "COPY")
    assert (found.dataset.symbol, found.dataset.state) == ("COPY", "imported")
    assert found.provenance is not None
    assert (found.provenance.imported_by, found.provenance.imported_at) == ("ada", NOW)


def test_a_file_that_is_no_dataset_hides_no_other(root: Path) -> None:
    for name, content in {
        "BAD": "nothing of use",
        "EMPTY": "",
        "HALF": "timestamp\n",
        "NOISE": "\x00" * 9,
    }.items():
        (root / name).mkdir()
        (root / name / "1d.csv").write_text(content)
    (root / "DIRECTORY" / "1d.csv").mkdir(parents=True)
    assert [each.symbol for each in list_datasets(root)] == ["SPX"]


@pytest.mark.parametrize(
    ("symbol", "timeframe", "hint"),
    [
        ("SPY", "1d", "Did you mean SPX? There is SPX 1d."),
        ("spx", "1d", "Did you mean SPX?"),
        ("SPX", "1h", "There is SPX 1d."),
        ("QQQQ", None, "There is SPX 1d."),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(
    root: Path, symbol: str, timeframe: str | None, hint: str
) -> None:
    with pytest.raises(NotFound, match=f"there is no data for {symbol}") as caught:
        describe(root, symbol, timeframe)
    assert str(caught.value.hint).startswith(hint)
    with pytest.raises(NotFound):
        remove(root, symbol, timeframe or "1d")


def test_a_removed_dataset_leaves_nothing_and_others_stay(root: Path) -> None:
    bring_in(GOOD, root, timeframe="1w")
    remove(root, "SPX", "1d")
    assert [each.timeframe for each in list_datasets(root)] == ["1w"]
    left = [path.name for path in (root / "SPX").iterdir()]
    assert not [name for name in left if name.lstrip(".").startswith("1d")]
    remove(root, "SPX", "1w")
    assert [path.name for path in root.iterdir()] == [".lock"]


def test_what_cannot_be_removed_is_said_so(root: Path) -> None:
    (root / ".lock").unlink()
    (root / ".lock").mkdir()
    with pytest.raises(HostNotReady, match="cannot be removed"):
        remove(root, "SPX", "1d")
    assert len(list_datasets(root)) == 1
