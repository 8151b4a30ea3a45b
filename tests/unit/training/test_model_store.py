"""Stored models are loaded as they were written, or rejected with the reason."""

from __future__ import annotations

import hashlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from ktrdr.errors import InvalidParameters
from ktrdr.schemas import TrainingParameters
from ktrdr.strategies.catalogue import load_feature_set
from ktrdr.training.handler import run
from ktrdr.training.model_store import load_model
from ktrdr.training.samples import compute_features
from tests.recording_context import RecordingContext
from tests.unit.backtesting.bars import random_bars, write_csv

NAME = "direction_1"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a shared directory with data and a model, which tests do not change."""
    shared = tmp_path_factory.mktemp("trained")
    write_csv(random_bars(500), shared / "data" / "TEST" / "1d.csv")
    output = shared / "out"
    output.mkdir()
    context = RecordingContext("op_training_x", shared, output)
    run(TrainingParameters(symbol="TEST", epochs=2, hidden_units=(4,)), context)
    (shared / "models").mkdir()
    (output / "model").rename(shared / "models" / NAME)
    return shared


@pytest.fixture
def models(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path / "models"


def change(models: Path, **changes) -> None:
    path = models / NAME / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_metadata_documents_the_model(models: Path) -> None:
    metadata = json.loads((models / NAME / "metadata.json").read_text())
    content = (models / NAME / "model.skops").read_bytes()
    assert metadata["sha256"] == hashlib.sha256(content).hexdigest()
    assert metadata["code"]["version"] == version("ktrdr")
    assert metadata["libraries"]["scikit-learn"] == version("scikit-learn")
    assert (metadata["symbol"], metadata["timeframe"]) == ("TEST", "1d")
    assert len(metadata["data_hash"]) == 64
    features = load_feature_set("default", Path("/nonexistent")).features
    assert [feature["name"] for feature in metadata["features"]] == list(features)
    assert metadata["metrics"]["baseline_accuracy"] > 0
    assert metadata["trained_until"] < metadata["last_bar"]


def test_the_commit_is_that_of_the_image(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("KTRDR_COMMIT", "abc123")
    from ktrdr.build_info import code_version

    assert code_version({"KTRDR_COMMIT": "abc123"})["commit"] == "abc123"
    assert code_version()["commit"] == "abc123"
    assert code_version({})["commit"] == "unknown"


def test_a_model_predicts_from_the_features_it_was_trained_on(models: Path) -> None:
    model = load_model(models, NAME)
    probabilities = model.predict_probabilities(random_bars(500))
    assert np.isnan(probabilities[:49]).all()
    assert ((probabilities[49:] > 0) & (probabilities[49:] < 1)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "model.skops does not match the hash in metadata.json"),
        ({"format": 7}, "was stored by another release, in a different format"),
        ({"features": []}, "it has no features"),
        ({"features": [{"name": "a", "kind": "x", "arguments": {}}]}, "it has unknown features: x"),
        (
            {"features": [{"name": "a", "kind": "range", "arguments": {}}]},
            "it needs 16 features, and there are 1",
        ),
        ({"features": "all"}, "metadata.json cannot be read"),
        (
            {"features": [{"name": "a", "kind": "sma", "arguments": {"window": 5}}]},
            "unknown features: sma",
        ),
        (
            {"features": [{"name": "a", "kind": "rsi", "arguments": {"window": "x"}}]},
            "unknown features: rsi",
        ),
        (
            {"features": [{"name": "a", "kind": "rsi", "arguments": {"window": 1.5}}]},
            "unknown features: rsi",
        ),
        (
            {"features": [{"name": "a", "kind": "sma", "arguments": {"window": 5, "of": "x"}}]},
            "unknown features: sma",
        ),
        ({"trained_until": "yesterday"}, "metadata.json cannot be read"),
        ({"trained_until": "2020-01-01T00:00:00"}, "contains a time without a zone"),
        ({"libraries": {"skops": "0.13"}}, "was stored with scikit-learn none, and scikit-learn"),
    ],
)
def test_invalid_metadata_is_reported(models: Path, changes, message: str) -> None:
    change(models, **changes)
    with pytest.raises(InvalidParameters, match=message) as caught:
        load_model(models, NAME)
    assert "Train it again" in str(caught.value.hint)


def test_features_with_several_arguments_are_computed_as_they_were_trained(
    tmp_path: Path, models: Path
) -> None:
    output = tmp_path / "cross"
    output.mkdir()
    parameters = TrainingParameters(
        symbol="TEST", features="moving_average_cross", epochs=2, hidden_units=(4,)
    )
    run(parameters, RecordingContext("op_training_y", tmp_path, output))
    (output / "model").rename(models / "cross_1")
    bars = random_bars(500)
    model = load_model(models, "cross_1")
    features = load_feature_set("moving_average_cross", tmp_path).features
    rows = compute_features(bars, features)[49:]
    np.testing.assert_array_equal(
        model.predict_probabilities(bars)[49:], model.classifier.predict_probabilities(rows)
    )


@pytest.mark.parametrize("library", ["scikit-learn", "skops"])
def test_only_another_major_version_of_a_library_is_rejected(models: Path, library: str) -> None:
    def installed(major: int):
        return lambda name: (
            f"{int(version(name).split('.')[0]) + major}.99" if name == library else version(name)
        )

    assert load_model(models, NAME, installed(0))
    with pytest.raises(InvalidParameters, match=f"was stored with {library} .* is installed"):
        load_model(models, NAME, installed(1))


@pytest.mark.parametrize("name", ["model.skops", "metadata.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "noise"])
def test_a_damaged_file_is_reported(models: Path, name: str, damage: str) -> None:
    path = models / NAME / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "cut": content[:99], "noise": b"\xff" * 99}[damage])
    with pytest.raises(InvalidParameters, match=f"model {NAME} is damaged: .*{name}"):
        load_model(models, NAME)


def test_a_file_that_matches_its_hash_but_is_not_a_model_is_rejected(models: Path) -> None:
    content = b"PK\x05\x06" + b"\0" * 18
    (models / NAME / "model.skops").write_bytes(content)
    change(models, sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(InvalidParameters, match="the stored model cannot be read"):
        load_model(models, NAME)


@pytest.mark.parametrize("name", ["../models/direction_1", "direction_2", ""])
def test_a_missing_model_is_reported_with_the_known_ones(models: Path, name: str) -> None:
    with pytest.raises(InvalidParameters, match="there is no model") as caught:
        load_model(models, name)
    assert NAME in str(caught.value.hint)
