"""Stored models are used as indicators, but never on bars that they were trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ktrdr.backtesting import handler as backtesting
from ktrdr.errors import InvalidParameters
from ktrdr.schemas import BacktestParameters, TrainingParameters
from ktrdr.strategies import catalogue
from ktrdr.training import handler as training
from ktrdr.training.model_store import load_model
from ktrdr.work import Checkpoint, Stopped
from tests.recording_context import RecordingContext
from tests.unit.backtesting.bars import random_bars, write_csv

MODEL = "direction_20261123_164500_1a2b3c4d"
DOCUMENT = f"""\
name: by_model
parameters:
  sure: {{default: [0.45, 0.5], minimum: 0, maximum: 1}}
indicators:
  rise: {{kind: model, name: {MODEL}}}
entry: rise > sure
exit: rise <= sure
"""
PARAMETERS = BacktestParameters(symbol="TEST", strategy="by_model", train_bars=600, folds=2)


def context(shared: Path, name: str, **more) -> RecordingContext:
    output = shared / name
    output.mkdir()
    return RecordingContext(f"op_{name}", shared, output, **more)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a model of the first 500 of 900 bars and a strategy that uses it."""
    directory = tmp_path_factory.mktemp("trained")
    bars = random_bars(900)
    write_csv(bars, directory / "data" / "TEST" / "1d.csv")
    work = context(directory, "training")
    end = bars.times[500].date()
    parameters = TrainingParameters(
        symbol="TEST", end=end, epochs=3, hidden_units=(4,), horizon_bars=5
    )
    training.run(parameters, work)
    (directory / "models").mkdir()
    (work.output / "model").rename(directory / "models" / MODEL)
    catalogue.save_strategy("by_model", DOCUMENT, directory / "strategies")
    return directory


@pytest.fixture
def shared(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of that directory, which the test may change."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_a_backtest_holds_while_the_model_predicts_a_rise(shared: Path) -> None:
    work = context(shared, "out")
    one = PARAMETERS.model_copy(update={"strategy_parameters": {"sure": 0.5}})
    backtesting.run(one, work)
    targets = pd.read_csv(work.output / "equity.csv")["target"].to_numpy()
    rises = load_model(shared / "models", MODEL).predict_probabilities(random_bars(900))
    np.testing.assert_array_equal(targets, (rises[599:899] > 0.5).astype(float))
    assert 0 < targets.mean() < 1
    summary = json.loads((work.output / "summary.json").read_text())
    assert list(summary["models"]) == [MODEL]


def test_only_bars_after_those_of_the_training_can_be_traded(
    shared: Path,
) -> None:
    until = load_model(shared / "models", MODEL).trained_until
    bars = random_bars(900)
    last = int(np.flatnonzero(bars.times == until)[0])
    backtesting.run(PARAMETERS.model_copy(update={"train_bars": last + 1}), context(shared, "a"))
    with pytest.raises(InvalidParameters, match="was trained on bars up to") as caught:
        backtesting.run(PARAMETERS.model_copy(update={"train_bars": last}), context(shared, "b"))
    assert "train_bars" in str(caught.value.hint)


def test_the_training_labels_end_before_the_test_begins(shared: Path) -> None:
    model = load_model(shared / "models", MODEL)
    metrics = json.loads((shared / "models" / MODEL / "metadata.json").read_text())["metrics"]
    bars = random_bars(900)
    last = int(np.flatnonzero(bars.times == model.trained_until)[0])
    # Of 500 bars, five have no label, and the last of the rest are the test.
    assert last < 500 - 5 - metrics["test_samples"]


def test_a_model_of_another_timeframe_is_rejected(shared: Path) -> None:
    write_csv(random_bars(900), shared / "data" / "TEST" / "1h.csv")
    with pytest.raises(InvalidParameters, match="was trained on 1d bars, not 1h bars"):
        backtesting.run(PARAMETERS.model_copy(update={"timeframe": "1h"}), context(shared, "out"))


def test_changes_of_the_future_change_no_earlier_probability(shared: Path) -> None:
    model = load_model(shared / "models", MODEL)
    bars, changed = random_bars(900), random_bars(900)
    for column in (changed.close, changed.high, changed.low, changed.volume):
        column[700:] *= 2
    before, after = model.predict_probabilities(bars), model.predict_probabilities(changed)
    np.testing.assert_array_equal(before[:700], after[:700])
    assert not np.array_equal(before[700:], after[700:])
    assert np.isnan(before[:49]).all()
    assert not np.isnan(before[49:]).any()


def test_a_checkpoint_made_with_another_model_is_ignored(shared: Path) -> None:
    first = context(shared, "first", stop_after_step=1)
    with pytest.raises(Stopped):
        backtesting.run(PARAMETERS, first)
    step, state, _ = first.checkpoints[-1]
    changed = json.loads(json.dumps(state))
    changed["made_from"]["models"][MODEL] = "other"
    for name, kept, done in (("same", state, 1), ("changed", changed, 2)):
        work = context(shared, name, resume_from=Checkpoint(step, kept, None))
        backtesting.run(PARAMETERS, work)
        assert len(work.checkpoints) == done


def test_a_missing_model_is_reported_with_the_nearest_name(shared: Path) -> None:
    document = DOCUMENT.replace("1a2b3c4d", "1a2b3c4e")
    catalogue.save_strategy("by_model", document, shared / "strategies")
    with pytest.raises(InvalidParameters, match=f"there is no model .*; did you mean {MODEL}"):
        backtesting.run(PARAMETERS, context(shared, "out"))
