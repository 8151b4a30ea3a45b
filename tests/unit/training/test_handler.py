"""The training: honest in time, the same after a stop, judged against a baseline."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ktrdr.contracts import TrainingParameters
from ktrdr.errors import InvalidParameters
from ktrdr.training.features import feature_table, make_samples
from ktrdr.training.handler import run
from ktrdr.training.model import Classifier
from ktrdr.training.split import split_in_time
from ktrdr.work import Checkpoint, LocalContext, Stopped
from tests.unit.backtesting.bars import random_bars, write_csv

PARAMETERS = TrainingParameters(symbol="TEST", epochs=4, hidden_units=(8,), seed=7)


def context(tmp_path: Path, name: str, **more) -> LocalContext:
    output = tmp_path / name
    output.mkdir()
    return LocalContext("op_training_x", tmp_path, output, **more)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_csv(random_bars(600), tmp_path / "data" / "TEST" / "1d.csv")
    return tmp_path


def test_a_feature_never_depends_on_later_bars() -> None:
    bars, changed = random_bars(300), random_bars(300)
    for column in (changed.close, changed.high, changed.low, changed.volume):
        column[200:] *= 1.7
    before, after = feature_table(bars), feature_table(changed)
    np.testing.assert_array_equal(before[:200].to_numpy(), after[:200].to_numpy())
    assert not np.array_equal(before[200:].to_numpy(), after[200:].to_numpy())


@pytest.mark.parametrize("horizon", [1, 5, 20])
def test_no_training_label_looks_into_the_test(horizon: int) -> None:
    samples = make_samples(random_bars(500), horizon)
    split = split_in_time(samples, test_fraction=0.25, horizon=horizon)
    last_seen = samples.index[split.train].max() + horizon
    assert last_seen < samples.index[split.test].min()
    assert len(split.train) + len(split.test) + horizon == len(samples)


def test_labels_say_whether_the_close_is_higher_after_the_horizon() -> None:
    bars = random_bars(200)
    samples = make_samples(bars, 5)
    for row, bar in enumerate(samples.index[:20]):
        assert samples.labels[row] == int(bars.close[bar + 5] > bars.close[bar])


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_training_that_stopped_and_went_on_writes_the_same_bytes_as_one_that_did_not(
    data: Path, stop_after: int
) -> None:
    whole = context(data, "whole")
    run(PARAMETERS, whole)
    first = context(data, "first", stop_after_step=stop_after)
    with pytest.raises(Stopped):
        run(PARAMETERS, first)
    step, state, files = first.checkpoints[-1]
    kept = data / "kept"
    kept.mkdir()
    for name, content in files.items():
        (kept / name).write_bytes(content)
    point = Checkpoint(step, json.loads(json.dumps(state)), kept)
    resumed = context(data, "resumed", resume_from=point)
    run(PARAMETERS, resumed)
    for name in ("report.html", "epochs.json", "model/metadata.json"):
        assert (resumed.output / name).read_bytes() == (whole.output / name).read_bytes()
    features = make_samples(random_bars(600), 5).features
    models = [
        Classifier.load((each.output / "model" / "model.skops").read_bytes())
        for each in (whole, resumed)
    ]
    undisturbed, after_stop = (model.probabilities(features) for model in models)
    np.testing.assert_array_equal(undisturbed, after_stop)


def test_the_confusion_and_the_baseline_fit_the_accuracy(data: Path) -> None:
    work = context(data, "out")
    summary = run(PARAMETERS, work).summary
    bars = random_bars(600)
    samples = make_samples(bars, PARAMETERS.horizon_bars)
    split = split_in_time(samples, test_fraction=0.25, horizon=PARAMETERS.horizon_bars)
    model = Classifier.load((work.output / "model" / "model.skops").read_bytes())
    labels = samples.labels[split.test]
    said = model.probabilities(samples.features[split.test]) > 0.5
    assert summary["test_accuracy"] == pytest.approx(np.mean(said == labels), abs=1e-9)
    majority = samples.labels[split.train].mean() >= 0.5
    assert summary["baseline_accuracy"] == pytest.approx(np.mean(labels == majority), abs=1e-9)


def test_a_model_file_that_is_not_one_is_refused_and_runs_nothing() -> None:
    with pytest.raises(InvalidParameters, match="cannot be read"):
        Classifier.load(b"\x80\x04cos\nsystem\n(S'true'\ntR.")


def test_too_little_data_is_refused_with_the_remedy(data: Path) -> None:
    short = PARAMETERS.model_copy(update={"horizon_bars": 250, "test_fraction": 0.89})
    with pytest.raises(InvalidParameters, match="too few"):
        run(short, context(data, "out"))
