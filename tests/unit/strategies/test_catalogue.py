"""Strategies are found by name, and no name reaches or replaces a file outside the catalogue."""

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


def test_built_in_strategies_need_no_directory(directory: Path) -> None:
    assert [strategy.name for strategy in catalogue.list_strategies(directory)] == BUILT_IN
    assert all(
        listed.built_in and not listed.fault for listed in catalogue.list_strategies(directory)
    )
    assert all(catalogue.load_strategy(name, directory).description for name in BUILT_IN)


def test_an_own_strategy_can_be_saved_loaded_replaced_and_deleted(directory: Path) -> None:
    catalogue.save_strategy("mine", MINE, directory)
    assert catalogue.list_names(directory) == [*BUILT_IN, "mine"]
    assert catalogue.read_document("mine", directory) == MINE
    before = catalogue.load_strategy("mine", directory).content_hash
    catalogue.save_strategy("mine", MINE.replace("always", "close > 1"), directory)
    assert catalogue.load_strategy("mine", directory).content_hash != before
    assert [path.name for path in directory.iterdir()] == ["mine.yml"]
    catalogue.delete_strategy("mine", directory)
    assert catalogue.list_names(directory) == BUILT_IN


def test_an_own_strategy_never_replaces_a_built_in_one(directory: Path) -> None:
    built_in_hash = catalogue.load_strategy("buy_and_hold", directory).content_hash
    text = "name: buy_and_hold\nentry: never\nexit: never\n"
    with pytest.raises(Conflict, match="buy_and_hold is built in"):
        catalogue.save_strategy("buy_and_hold", text, directory)
    with pytest.raises(Conflict):
        catalogue.delete_strategy("buy_and_hold", directory)
    directory.mkdir()
    (directory / "buy_and_hold.yml").write_text(text)
    assert catalogue.load_strategy("buy_and_hold", directory).content_hash == built_in_hash
    assert catalogue.list_names(directory) == BUILT_IN


def test_an_invalid_document_changes_nothing(directory: Path) -> None:
    catalogue.save_strategy("mine", MINE, directory)
    for text in ("name: mine\n", "name: other\nentry: always\nexit: never\n", "\0"):
        with pytest.raises(InvalidParameters):
            catalogue.save_strategy("mine", text, directory)
    assert catalogue.read_document("mine", directory) == MINE


@pytest.mark.parametrize("name", ["../secret", "a/b", ".hidden", "", "x" * 65, "features/default"])
def test_no_name_leads_out_of_the_directory(directory: Path, name: str) -> None:
    directory.mkdir()
    (directory.parent / "secret.yml").write_text(MINE)
    with pytest.raises(InvalidParameters, match="there is no strategy"):
        catalogue.load_strategy(name, directory)
    with pytest.raises(NotFound):
        catalogue.read_document(name, directory)


def test_a_broken_file_is_listed_with_its_error_beside_the_others(directory: Path) -> None:
    directory.mkdir()
    (directory / "broken.yml").write_text("name: broken\nentry: clsoe > 1\nexit: never\n")
    (directory / "renamed.yml").write_text(MINE)
    (directory / "binary.yml").write_bytes(b"\xff\xfe")
    (directory / "notes.txt").write_text("none")
    listed = {strategy.name: strategy for strategy in catalogue.list_strategies(directory)}
    assert list(listed) == [*BUILT_IN, "binary", "broken", "renamed"]
    assert "broken.yml:2: entry is invalid" in str(listed["broken"].fault)
    assert "describes a strategy with the name mine" in str(listed["renamed"].fault)
    assert "cannot be read" in str(listed["binary"].fault)


def test_a_directory_that_is_a_file_holds_no_strategies(tmp_path: Path) -> None:
    (tmp_path / "strategies").write_text("a file")
    assert catalogue.list_names(tmp_path / "strategies") == BUILT_IN


def test_a_directory_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "strategies").write_text("a file")
    with pytest.raises(HostNotReady, match="cannot be written") as caught:
        catalogue.save_strategy("mine", MINE, tmp_path / "strategies")
    assert "shared directory" in str(caught.value.hint)


def test_features_are_a_feature_set_or_the_indicators_of_a_strategy(directory: Path) -> None:
    assert len(catalogue.load_feature_set("default", directory).features) == 16
    features = catalogue.load_feature_set("moving_average_cross", directory).features
    assert [dict(feature.arguments)["window"] for feature in features.values()] == [10, 50]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINE, "it has no indicators"),
        (MINE + "indicators:\n  p: {kind: model, name: x}\n", "p is itself a model"),
    ],
)
def test_a_strategy_that_cannot_be_used_as_features_is_rejected_with_the_reason(
    directory: Path, text, message
) -> None:
    catalogue.save_strategy("mine", text, directory)
    with pytest.raises(InvalidParameters, match=message):
        catalogue.load_feature_set("mine", directory)
    with pytest.raises(
        InvalidParameters, match=r"there is no feature set or strategy defualt; did you"
    ):
        catalogue.load_feature_set("defualt", directory)


def test_the_size_of_a_file_is_reported_even_if_the_limit_is_inside_a_character(
    directory: Path,
) -> None:
    directory.mkdir()
    (directory / "large.yml").write_text("# " + "é" * 40_000)
    with pytest.raises(InvalidParameters, match=r"large\.yml is larger than 64 KB"):
        catalogue.load_strategy("large", directory)
