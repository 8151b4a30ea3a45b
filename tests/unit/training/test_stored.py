"""A stored model is read as it was written, or refused with the reason; never guessed at."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from ktrdr.errors import InvalidParameters
from ktrdr.schemas import TrainingParameters
from ktrdr.strategies.catalogue import load_feature_set
from ktrdr.training.features import feature_table
from ktrdr.training.handler import run
from ktrdr.training.stored import read_model
from ktrdr.work import LocalContext
from tests.unit.backtesting.bars import random_bars, write_csv

NAME = "direction_1"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write_csv(random_bars(500), tmp_path / "data" / "TEST" / "1d.csv")
    output = tmp_path / "out"
    output.mkdir()
    context = LocalContext("op_training_x", tmp_path, output)
    run(TrainingParameters(symbol="TEST", epochs=2, hidden_units=(4,)), context)
    (tmp_path / "models").mkdir()
    (output / "model").rename(tmp_path / "models" / NAME)
    return tmp_path / "models"


def change(models: Path, **changes) -> None:
    path = models / NAME / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_metadata_says_what_somebody_needs_who_finds_it_in_a_year(models: Path) -> None:
    said = json.loads((models / NAME / "metadata.json").read_text())
    content = (models / NAME / "model.skops").read_bytes()
    assert said["sha256"] == hashlib.sha256(content).hexdigest()
    assert said["code"]["version"] == version("ktrdr")
    assert said["libraries"]["scikit-learn"] == version("scikit-learn")
    assert (said["symbol"], said["timeframe"]) == ("TEST", "1d")
    assert len(said["data_hash"]) == 64
    features = load_feature_set("default", Path("/nonexistent")).features
    assert [each["name"] for each in said["features"]] == list(features)
    assert said["metrics"]["baseline_accuracy"] > 0
    assert said["trained_until"] < said["last_bar"]


def test_the_commit_is_that_of_the_image(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("KTRDR_COMMIT", "abc123")
    from ktrdr.build_info import code

    assert code({"KTRDR_COMMIT": "abc123"})["commit"] == "abc123"
    assert code()["commit"] == "abc123"
    assert code({})["commit"] == "unknown"


def test_a_model_is_asked_with_the_features_it_was_trained_on(models: Path) -> None:
    model = read_model(models, NAME)
    found = model.probabilities(random_bars(500))
    assert np.isnan(found[:49]).all()
    assert ((found[49:] > 0) & (found[49:] < 1)).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sha256": "0" * 64}, "model.skops is not the file that metadata.json speaks of"),
        ({"format": 7}, "was stored by a release that wrote models otherwise"),
        ({"features": []}, "it names features that nobody knows: none"),
        ({"features": [{"name": "a", "kind": "x", "arguments": {}}]}, "that nobody knows: x"),
        ({"features": [{"name": "a", "kind": "range", "arguments": {}}]}, "looks at 16 features"),
        ({"features": "all"}, "metadata.json cannot be read"),
        ({"features": [{"name": "a", "kind": "sma", "arguments": {"window": 5}}]}, "knows: sma"),
        ({"features": [{"name": "a", "kind": "rsi", "arguments": {"window": "x"}}]}, "knows: rsi"),
        ({"features": [{"name": "a", "kind": "rsi", "arguments": {"window": 1.5}}]}, "knows: rsi"),
        (
            {"features": [{"name": "a", "kind": "sma", "arguments": {"window": 5, "of": "x"}}]},
            "knows: sma",
        ),
        ({"trained_until": "yesterday"}, "metadata.json cannot be read"),
        ({"trained_until": "2020-01-01T00:00:00"}, "says a time without a zone"),
        ({"libraries": {"skops": "0.13"}}, "was stored with scikit-learn none, and here is"),
    ],
)
def test_metadata_that_does_not_fit_is_named(models: Path, changes, said: str) -> None:
    change(models, **changes)
    with pytest.raises(InvalidParameters, match=said) as caught:
        read_model(models, NAME)
    assert "Train it again" in str(caught.value.hint)


def test_features_with_several_arguments_are_computed_as_they_were_trained(
    tmp_path: Path, models: Path
) -> None:
    output = tmp_path / "cross"
    output.mkdir()
    parameters = TrainingParameters(
        symbol="TEST", features="moving_average_cross", epochs=2, hidden_units=(4,)
    )
    run(parameters, LocalContext("op_training_y", tmp_path, output))
    (output / "model").rename(models / "cross_1")
    bars = random_bars(500)
    model = read_model(models, "cross_1")
    features = load_feature_set("moving_average_cross", tmp_path).features
    rows = feature_table(bars, features)[49:]
    np.testing.assert_array_equal(
        model.probabilities(bars)[49:], model.classifier.probabilities(rows)
    )


@pytest.mark.parametrize("library", ["scikit-learn", "skops"])
def test_another_major_version_of_a_library_is_refused_and_another_minor_one_is_not(
    models: Path, library: str
) -> None:
    def installed(major: int):
        return lambda name: (
            f"{int(version(name).split('.')[0]) + major}.99" if name == library else version(name)
        )

    assert read_model(models, NAME, installed(0))
    with pytest.raises(InvalidParameters, match=f"was stored with {library} .*, and here is"):
        read_model(models, NAME, installed(1))


@pytest.mark.parametrize("name", ["model.skops", "metadata.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "noise"])
def test_a_damaged_file_is_a_sentence(models: Path, name: str, damage: str) -> None:
    path = models / NAME / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "cut": content[:99], "noise": b"\xff" * 99}[damage])
    with pytest.raises(InvalidParameters, match=f"model {NAME} is damaged: .*{name}"):
        read_model(models, NAME)


def test_a_file_that_matches_its_hash_and_is_no_model_is_refused(models: Path) -> None:
    content = b"PK\x05\x06" + b"\0" * 18
    (models / NAME / "model.skops").write_bytes(content)
    change(models, sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(InvalidParameters, match="the stored model cannot be read"):
        read_model(models, NAME)


@pytest.mark.parametrize("name", ["../models/direction_1", "direction_2", ""])
def test_what_is_not_there_is_not_looked_for_elsewhere(models: Path, name: str) -> None:
    with pytest.raises(InvalidParameters, match="there is no model") as caught:
        read_model(models, name)
    assert NAME in str(caught.value.hint)
