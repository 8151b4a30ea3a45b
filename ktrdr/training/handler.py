"""Runs a training for a worker: features, split, epochs, judgement, files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from ktrdr.build_info import code, libraries
from ktrdr.marketdata.bars import Bars, read_bars
from ktrdr.schemas import TrainingParameters
from ktrdr.strategies.catalogue import load_feature_set
from ktrdr.strategies.document import FeatureSet
from ktrdr.training.archive import normalised
from ktrdr.training.checkpoints import Progress, resumed
from ktrdr.training.features import Samples, make_samples
from ktrdr.training.judging import judge
from ktrdr.training.model import Classifier, Epoch
from ktrdr.training.outcome import Outcome, summary_of
from ktrdr.training.report import write_report
from ktrdr.training.split import Split, split_in_time
from ktrdr.training.stopping import best_of, has_ended
from ktrdr.training.stored import FORMAT, METADATA_FILE, MODEL_FILE, feature_list
from ktrdr.work import WorkContext, WorkResult

LIBRARIES: Final = ("scikit-learn", "skops", "numpy", "pandas")


def run(parameters: TrainingParameters, context: WorkContext) -> WorkResult:
    """Trains as ``parameters`` say; writes model, report and data to ``context.output``.

    Raises:
        InvalidParameters: There is no such data or feature set, or too little data.
    """
    feature_set = load_feature_set(parameters.features, context.shared / "strategies")
    bars = read_bars(
        context.shared / "data",
        parameters.symbol,
        parameters.timeframe,
        parameters.start,
        parameters.end,
    )
    samples = make_samples(bars, parameters.horizon_bars, feature_set.features)
    split = split_in_time(
        samples,
        validation_fraction=parameters.validation_fraction,
        test_fraction=parameters.test_fraction,
        horizon=parameters.horizon_bars,
    )
    progress = _train(parameters, samples, split, context, _made_from(bars, feature_set))
    outcome = Outcome(
        bars=bars,
        parameters=parameters,
        feature_set=feature_set,
        samples=samples,
        split=split,
        epochs=progress.epochs,
        best=best_of(progress.epochs),
        judgement=judge(Classifier.load(progress.best), samples, split, parameters.horizon_bars),
    )
    _write_model(outcome, normalised(progress.best), context)
    _write_json(context.output / "epochs.json", [asdict(epoch) for epoch in progress.epochs])
    write_report(outcome, context.output / "report.html")
    return WorkResult(summary=summary_of(outcome), model=parameters.model_name)


def _made_from(bars: Bars, feature_set: FeatureSet) -> dict[str, Any]:
    """What the weights follow from, beside the parameters."""
    return {
        "data": bars.data_hash,
        "features": feature_list(feature_set.features),
        "code": code(),
        "libraries": libraries(LIBRARIES),
    }


def _train(
    parameters: TrainingParameters,
    samples: Samples,
    split: Split,
    context: WorkContext,
    made_from: Mapping[str, Any],
) -> Progress:
    train, labels = samples.features[split.train], samples.labels[split.train]
    progress = resumed(context.resume_from, made_from)
    progress = progress or Progress(Classifier.new(parameters, train))
    while not has_ended(progress.epochs, limit=parameters.epochs, patience=parameters.patience):
        progress.classifier.learn(train, labels)
        epoch = _evaluated(progress, samples, split)
        progress.add(epoch)
        context.progress(
            epoch.number / parameters.epochs,
            f"epoch {epoch.number} of {parameters.epochs}, loss {epoch.validation_loss:.4f}",
        )
        context.checkpoint(epoch.number, progress.state(made_from), progress.files())
    return progress


def _evaluated(progress: Progress, samples: Samples, split: Split) -> Epoch:
    losses, accuracies = zip(
        *(
            progress.classifier.evaluate(samples.features[part], samples.labels[part])
            for part in (split.train, split.validation)
        ),
        strict=True,
    )
    return Epoch(len(progress.epochs) + 1, *losses, *accuracies)


def _write_model(outcome: Outcome, content: bytes, context: WorkContext) -> None:
    """The model, and what somebody needs to know who finds it in a year."""
    directory, bars, parameters = context.output / "model", outcome.bars, outcome.parameters
    directory.mkdir()
    (directory / MODEL_FILE).write_bytes(content)
    metadata = {
        "format": FORMAT,
        "name": parameters.model_name,
        "operation_id": context.operation_id,
        "parameters": parameters.model_dump(mode="json"),
        "symbol": bars.symbol,
        "timeframe": bars.timeframe,
        "data_hash": bars.data_hash,
        "first_bar": bars.times[0].isoformat(),
        "last_bar": bars.times[-1].isoformat(),
        "trained_until": bars.times[outcome.last_bar_learnt_from()].isoformat(),
        "features": feature_list(outcome.feature_set.features),
        "classes": {"0": "falls or stays", "1": "rises"},
        "metrics": summary_of(outcome),
        "code": code(),
        "libraries": libraries(LIBRARIES),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    _write_json(directory / METADATA_FILE, metadata)


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8")
