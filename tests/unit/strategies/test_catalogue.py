"""Where strategies are found, and that nobody can reach or replace what is not theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ktrdr.errors import Conflict, HostNotReady, InvalidParameters, NotFound
from ktrdr.strategies import catalogue

MINE = "name: mine\nentry: always\nexit: never\n"
BUILT_IN = ["buy_and_hold", "donchian_breakout", "moving_average_cross", "rsi_reversion"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "strategies"


def test_those_that_come_with_ktrdr_need_no_directory(directory: Path) -> None:
    assert [each.name for each in catalogue.listing(directory)] == BUILT_IN
    assert all(each.built_in and not each.fault for each in catalogue.listing(directory))
    assert all(catalogue.find(name, directory).description for name in BUILT_IN)


def test_one_of_ones_own_is_put_found_replaced_and_deleted(directory: Path) -> None:
    catalogue.put("mine", MINE, directory)
    assert catalogue.names(directory) == [*BUILT_IN, "mine"]
    assert catalogue.show("mine", directory) == MINE
    before = catalogue.find("mine", directory).content_hash
    catalogue.put("mine", MINE.replace("always", "close > 1"), directory)
    assert catalogue.find("mine", directory).content_hash != before
    assert [path.name for path in directory.iterdir()] == ["mine.yml"]
    catalogue.delete("mine", directory)
    assert catalogue.names(directory) == BUILT_IN


def test_none_of_ones_own_takes_the_place_of_one_that_comes_with_ktrdr(directory: Path) -> None:
    theirs = catalogue.find("buy_and_hold", directory).content_hash
    text = "name: buy_and_hold\nentry: never\nexit: never\n"
    with pytest.raises(Conflict, match="buy_and_hold comes with KTRDR"):
        catalogue.put("buy_and_hold", text, directory)
    with pytest.raises(Conflict):
        catalogue.delete("buy_and_hold", directory)
    directory.mkdir()
    (directory / "buy_and_hold.yml").write_text(text)
    assert catalogue.find("buy_and_hold", directory).content_hash == theirs
    assert catalogue.names(directory) == BUILT_IN


def test_what_is_wrong_changes_nothing(directory: Path) -> None:
    catalogue.put("mine", MINE, directory)
    for text in ("name: mine\n", "name: other\nentry: always\nexit: never\n", "\0"):
        with pytest.raises(InvalidParameters):
            catalogue.put("mine", text, directory)
    assert catalogue.show("mine", directory) == MINE


@pytest.mark.parametrize("name", ["../secret", "a/b", ".hidden", "", "x" * 65, "features/default"])
def test_no_name_leads_out_of_the_directory(directory: Path, name: str) -> None:
    directory.mkdir()
    (directory.parent / "secret.yml").write_text(MINE)
    with pytest.raises(InvalidParameters, match="there is no strategy"):
        catalogue.find(name, directory)
    with pytest.raises(NotFound):
        catalogue.show(name, directory)


def test_a_broken_file_says_so_in_the_listing_and_spares_the_others(directory: Path) -> None:
    directory.mkdir()
    (directory / "broken.yml").write_text("name: broken\nentry: clsoe > 1\nexit: never\n")
    (directory / "renamed.yml").write_text(MINE)
    (directory / "binary.yml").write_bytes(b"\xff\xfe")
    (directory / "notes.txt").write_text("none")
    found = {each.name: each for each in catalogue.listing(directory)}
    assert list(found) == [*BUILT_IN, "binary", "broken", "renamed"]
    assert "broken.yml:2: entry is not good" in str(found["broken"].fault)
    assert "says that its strategy is called mine" in str(found["renamed"].fault)
    assert "cannot be read" in str(found["binary"].fault)


def test_a_directory_that_is_a_file_holds_no_strategies(tmp_path: Path) -> None:
    (tmp_path / "strategies").write_text("a file")
    assert catalogue.names(tmp_path / "strategies") == BUILT_IN


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "strategies").write_text("a file")
    with pytest.raises(HostNotReady, match="cannot be written") as caught:
        catalogue.put("mine", MINE, tmp_path / "strategies")
    assert "shared directory" in str(caught.value.hint)


def test_features_are_a_set_or_the_indicators_of_a_strategy(directory: Path) -> None:
    assert len(catalogue.find_features("default", directory).definitions) == 16
    found = catalogue.find_features("moving_average_cross", directory).definitions
    assert [dict(each.arguments)["window"] for each in found.values()] == [10, 50]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MINE, "it has no indicators"),
        (MINE + "indicators:\n  p: {kind: model, name: x}\n", "p is a model itself"),
    ],
)
def test_a_strategy_that_can_give_no_features_says_why(directory: Path, text, said) -> None:
    catalogue.put("mine", text, directory)
    with pytest.raises(InvalidParameters, match=said):
        catalogue.find_features("mine", directory)
    with pytest.raises(InvalidParameters, match=r"no feature set and no strategy defualt; did you"):
        catalogue.find_features("defualt", directory)
