"""Trainings use no later bars, resume to the same bytes, and are evaluated against a baseline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ktrdr.errors import InvalidParameters
from ktrdr.schemas import TrainingParameters
from ktrdr.strategies.catalogue import load_feature_set
from ktrdr.training.handler import run
from ktrdr.training.model import Classifier
from ktrdr.training.samples import Samples, Split, build_samples, split_in_time
from ktrdr.work import Checkpoint, Stopped
from tests.recording_context import RecordingContext
from tests.unit.backtesting.bars import random_bars, write_csv

PARAMETERS = TrainingParameters(
    symbol="TEST", epochs=12, hidden_units=(8,), seed=7, patience=2, learning_rate=0.008
)
FEATURES = load_feature_set("default", Path("/nonexistent")).features
MODEL = "model/model.skops"
PATIENT_UNTIL = 6


def split_of(samples: Samples) -> Split:
    return split_in_time(
        samples,
        validation_fraction=PARAMETERS.validation_fraction,
        test_fraction=PARAMETERS.test_fraction,
        horizon=PARAMETERS.horizon_bars,
    )


def context(tmp_path: Path, name: str, **more) -> RecordingContext:
    output = tmp_path / name
    output.mkdir()
    return RecordingContext("op_training_x", tmp_path, output, **more)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_csv(random_bars(600), tmp_path / "data" / "TEST" / "1d.csv")
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RecordingContext:
    """Return the context of a training that ran to its end, on the same data."""
    shared = tmp_path_factory.mktemp("whole")
    write_csv(random_bars(600), shared / "data" / "TEST" / "1d.csv")
    work = context(shared, "out")
    run(PARAMETERS, work)
    return work


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Return the checkpoint of a training that was stopped after two epochs, on the same data."""
    shared = tmp_path_factory.mktemp("stopped")
    write_csv(random_bars(600), shared / "data" / "TEST" / "1d.csv")
    return stopped_after(shared, 2)


def test_labels_state_whether_the_close_is_higher_after_the_horizon() -> None:
    bars = random_bars(200)
    samples = build_samples(bars, 5, FEATURES)
    for row, bar in enumerate(samples.bar_indexes[:20]):
        assert samples.labels[row] == int(bars.close[bar + 5] > bars.close[bar])


def files_of(directory: Path) -> dict[str, bytes]:
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def stopped_after(data: Path, step: int) -> Checkpoint:
    first = context(data, f"stopped-{step}", stop_after_step=step)
    with pytest.raises(Stopped):
        run(PARAMETERS, first)
    reached, state, files = first.checkpoints[-1]
    kept = data / f"kept-{step}"
    kept.mkdir()
    for name, content in files.items():
        (kept / name).write_bytes(content)
    return Checkpoint(reached, json.loads(json.dumps(state)), kept)


def test_a_training_stopped_at_any_epoch_resumes_to_the_same_bytes(
    data: Path, whole: RecordingContext
) -> None:
    expected = files_of(whole.output)
    assert set(expected) == {"report.html", "epochs.json", "model/metadata.json", MODEL}
    steps = [step for step, _, _ in whole.checkpoints]
    # The training ends by its patience, and its best epoch is not its last.
    assert len(steps) == PATIENT_UNTIL
    for step in steps:
        resumed = context(data, f"resumed-{step}", resume_from=stopped_after(data, step))
        run(PARAMETERS, resumed)
        assert files_of(resumed.output) == expected, step
        assert [step for step, _, _ in resumed.checkpoints] == steps[step:]


def test_equal_seeds_give_equal_models(data: Path, whole: RecordingContext) -> None:
    outputs = []
    for seed in (PARAMETERS.seed, PARAMETERS.seed + 1):
        work = context(data, f"seed-{seed}")
        run(PARAMETERS.model_copy(update={"seed": seed}), work)
        outputs.append(files_of(work.output))
    assert outputs[0] == files_of(whole.output)
    assert outputs[0][MODEL] != outputs[1][MODEL]


def test_the_model_of_the_epoch_with_the_least_validation_loss_is_kept(data: Path) -> None:
    work = context(data, "out")
    summary = run(PARAMETERS, work).summary
    epochs = json.loads((work.output / "epochs.json").read_text())
    losses = [epoch["validation_loss"] for epoch in epochs]
    best = losses.index(min(losses)) + 1
    assert summary["best_epoch"] == best < len(epochs) == summary["epochs"]
    short = context(data, "short")
    run(PARAMETERS.model_copy(update={"epochs": best}), short)
    assert files_of(short.output)[MODEL] == files_of(work.output)[MODEL]


def test_the_test_bars_influence_neither_the_model_nor_the_stopping(
    data: Path, whole: RecordingContext
) -> None:
    bars = random_bars(600)
    samples = build_samples(bars, PARAMETERS.horizon_bars, FEATURES)
    split = split_of(samples)
    first = int(samples.bar_indexes[split.test[0]])
    bars.close[first:] *= np.linspace(1, 0.5, 600 - first)
    bars.low[first:] *= 0.3
    write_csv(bars, data / "data" / "TEST" / "1d.csv")
    other = context(data, "other")
    run(PARAMETERS, other)
    assert files_of(other.output)[MODEL] == files_of(whole.output)[MODEL]
    assert files_of(other.output)["epochs.json"] == files_of(whole.output)["epochs.json"]
    metrics = [
        json.loads(files_of(each.output)["model/metadata.json"])["metrics"]
        for each in (whole, other)
    ]
    assert metrics[0]["test_loss"] != metrics[1]["test_loss"]


def damage(checkpoint: Checkpoint, how: str) -> Checkpoint:
    assert checkpoint.artifacts is not None
    state = dict(checkpoint.state)
    if how == "other data":
        state["made_from"] = {**state["made_from"], "data": "other"}
    elif how == "of release 0.1.0":
        state = {"data_hash": "x", "epochs": []}
    elif how == "one epoch too few":
        state["epochs"] = state["epochs"][:-1]
    elif how == "odd epochs":
        state["epochs"] = [{"number": 1}]
    elif how == "no files":
        return Checkpoint(checkpoint.step, state, None)
    else:
        name, kind = how.split()
        path = checkpoint.artifacts / name
        path.write_bytes(path.read_bytes()[:200]) if kind == "cut" else path.unlink()
    return Checkpoint(checkpoint.step, state, checkpoint.artifacts)


@pytest.mark.parametrize(
    "how",
    [
        *("other data", "of release 0.1.0", "one epoch too few", "odd epochs", "no files"),
        *("model.skops cut", "model.skops gone", "best.skops cut", "best.skops gone"),
    ],
)
def test_a_training_with_an_unusable_checkpoint_starts_over_and_ends_the_same(
    data: Path, whole: RecordingContext, stopped: Checkpoint, how: str, caplog
) -> None:
    assert stopped.artifacts is not None
    copy = shutil.copytree(stopped.artifacts, data / "kept")
    unusable = damage(Checkpoint(stopped.step, stopped.state, copy), how)
    work = context(data, "again", resume_from=unusable)
    run(PARAMETERS, work)
    assert files_of(work.output) == files_of(whole.output)
    assert len(work.checkpoints) == len(whole.checkpoints)
    assert "starting over: the checkpoint cannot be used" in caplog.text


def test_the_metrics_are_those_of_the_stored_model(data: Path) -> None:
    work = context(data, "out")
    summary = run(PARAMETERS, work).summary
    samples = build_samples(random_bars(600), PARAMETERS.horizon_bars, FEATURES)
    split = split_of(samples)
    model = Classifier.load((work.output / MODEL).read_bytes())
    labels = samples.labels[split.test]
    predicted = model.predict_probabilities(samples.features[split.test]) > 0.5
    assert summary["test_accuracy"] == pytest.approx(np.mean(predicted == labels), abs=1e-9)
    majority = samples.labels[split.train].mean() >= 0.5
    assert summary["baseline_accuracy"] == pytest.approx(np.mean(labels == majority), abs=1e-9)
    loss, accuracy = model.evaluate(samples.features[split.train], samples.labels[split.train])
    assert (summary["train_loss"], summary["train_accuracy"]) == (loss, accuracy)


def test_the_indicators_of_a_strategy_can_be_features(data: Path) -> None:
    work = context(data, "out")
    run(PARAMETERS.model_copy(update={"features": "rsi_reversion"}), work)
    described = json.loads((work.output / "model/metadata.json").read_text())["features"]
    assert described == [{"name": "strength", "kind": "rsi", "arguments": {"window": 14}}]
    with pytest.raises(InvalidParameters, match="there is no feature set or strategy nothing"):
        run(PARAMETERS.model_copy(update={"features": "nothing"}), context(data, "b"))


def test_a_file_that_is_not_a_model_is_rejected_and_never_executed() -> None:
    with pytest.raises(InvalidParameters, match="cannot be read"):
        Classifier.load(b"\x80\x04cos\nsystem\n(S'true'\ntR.")


def test_too_little_data_is_rejected(data: Path) -> None:
    short = PARAMETERS.model_copy(update={"horizon_bars": 250, "test_fraction": 0.89})
    with pytest.raises(InvalidParameters, match="too few"):
        run(short, context(data, "out"))
