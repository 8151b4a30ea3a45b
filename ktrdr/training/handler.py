"""Runs a training for a worker: features, split, epochs, judgement, files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ktrdr.contracts import TrainingParameters
from ktrdr.marketdata.bars import Bars, read_bars
from ktrdr.training.features import Samples, make_samples
from ktrdr.training.model import CLASSES, Classifier, Epoch
from ktrdr.training.report import write_report
from ktrdr.training.split import Split, split_in_time
from ktrdr.work import WorkContext, WorkResult

MODEL_FILE: Final = "model.skops"
LIBRARIES: Final = ("scikit-learn", "skops", "numpy", "pandas")


@dataclass(frozen=True)
class Outcome:
    """A finished training.

    Attributes:
        baseline: The accuracy on the test of always saying what was more frequent in training.
        confusion: Counts by true class (rows) and predicted class (columns), on the test.
    """

    bars: Bars
    parameters: TrainingParameters
    samples: Samples
    split: Split
    epochs: Sequence[Epoch]
    baseline: float
    confusion: NDArray[np.int64]

    @property
    def last(self) -> Epoch:
        """The last epoch, whose model is kept."""
        return self.epochs[-1]


def run(parameters: TrainingParameters, context: WorkContext) -> WorkResult:
    """Trains as ``parameters`` say; writes model, report and data to ``context.output``.

    Raises:
        InvalidParameters: There is no such data, or too little of it.
    """
    bars = read_bars(
        context.shared / "data",
        parameters.symbol,
        parameters.timeframe,
        parameters.start,
        parameters.end,
    )
    samples = make_samples(bars, parameters.horizon_bars)
    split = split_in_time(
        samples, test_fraction=parameters.test_fraction, horizon=parameters.horizon_bars
    )
    classifier, epochs = _train(parameters, bars, samples, split, context)
    outcome = _judge(parameters, bars, samples, split, classifier, epochs)
    _write_model(outcome, classifier, context.output / "model")
    _write_json(context.output / "epochs.json", [asdict(epoch) for epoch in epochs])
    write_report(outcome, context.output / "report.html")
    return WorkResult(summary=summary_of(outcome), model=parameters.model_name)


def summary_of(outcome: Outcome) -> dict[str, Any]:
    """The figures of a training: accuracies and losses after the last epoch, and the baseline."""
    last = outcome.last
    return {
        "test_accuracy": last.test_accuracy,
        "baseline_accuracy": outcome.baseline,
        "edge": last.test_accuracy - outcome.baseline,
        "test_loss": last.test_loss,
        "train_accuracy": last.train_accuracy,
        "train_loss": last.train_loss,
        "epochs": len(outcome.epochs),
        "train_samples": len(outcome.split.train),
        "test_samples": len(outcome.split.test),
        "data_hash": outcome.bars.data_hash,
    }


def _train(
    parameters: TrainingParameters,
    bars: Bars,
    samples: Samples,
    split: Split,
    context: WorkContext,
) -> tuple[Classifier, list[Epoch]]:
    train, train_labels = samples.features[split.train], samples.labels[split.train]
    test, test_labels = samples.features[split.test], samples.labels[split.test]
    classifier, epochs = _resumed(bars, context) or (Classifier.new(parameters, train), [])
    for number in range(len(epochs) + 1, parameters.epochs + 1):
        classifier.learn(train, train_labels)
        train_loss, train_accuracy = classifier.evaluate(train, train_labels)
        test_loss, test_accuracy = classifier.evaluate(test, test_labels)
        epochs.append(Epoch(number, train_loss, test_loss, train_accuracy, test_accuracy))
        context.progress(
            number / parameters.epochs,
            f"epoch {number} of {parameters.epochs}, loss {test_loss:.4f}",
        )
        state = {"data_hash": bars.data_hash, "epochs": [asdict(epoch) for epoch in epochs]}
        context.checkpoint(number, state, {MODEL_FILE: classifier.dump()})
    return classifier, epochs


def _resumed(bars: Bars, context: WorkContext) -> tuple[Classifier, list[Epoch]] | None:
    point = context.resume_from
    # What was learnt from other data than there is now is worth nothing.
    if point is None or point.artifacts is None or point.state["data_hash"] != bars.data_hash:
        return None
    classifier = Classifier.load((point.artifacts / MODEL_FILE).read_bytes())
    return classifier, [Epoch(**epoch) for epoch in point.state["epochs"]]


def _judge(
    parameters: TrainingParameters,
    bars: Bars,
    samples: Samples,
    split: Split,
    classifier: Classifier,
    epochs: Sequence[Epoch],
) -> Outcome:
    labels = samples.labels[split.test]
    predicted = (classifier.probabilities(samples.features[split.test]) > 0.5).astype(np.int64)
    majority = int(np.mean(samples.labels[split.train]) >= 0.5)
    confusion = np.array(
        [[np.sum((labels == true) & (predicted == said)) for said in CLASSES] for true in CLASSES]
    )
    return Outcome(
        bars, parameters, samples, split, epochs, float(np.mean(labels == majority)), confusion
    )


def _write_model(outcome: Outcome, classifier: Classifier, directory: Path) -> None:
    """The model, and what somebody needs to know who finds it in a year."""
    directory.mkdir()
    (directory / MODEL_FILE).write_bytes(classifier.dump())
    metadata = {
        "name": outcome.parameters.model_name,
        "parameters": outcome.parameters.model_dump(mode="json"),
        "features": list(outcome.samples.names),
        "classes": {"0": "falls or stays", "1": "rises"},
        "metrics": summary_of(outcome),
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    _write_json(directory / "metadata.json", metadata)


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8")
