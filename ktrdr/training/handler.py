"""Handler of trainings: build samples, train, evaluate, write files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from ktrdr.build_info import code_version, library_versions
from ktrdr.marketdata.bars import read_bars
from ktrdr.schemas import TrainingParameters
from ktrdr.strategies.catalogue import load_feature_set
from ktrdr.training.evaluation import evaluate_holdout
from ktrdr.training.model import Classifier, EpochMetrics
from ktrdr.training.model_archive import normalise_archive
from ktrdr.training.model_store import FORMAT, METADATA_FILE, MODEL_FILE, describe_features
from ktrdr.training.progress import (
    TrainingProgress,
    best_epoch,
    restore_progress,
    should_stop_training,
)
from ktrdr.training.report import write_report
from ktrdr.training.results import TrainingResult, summarise_result
from ktrdr.training.samples import Samples, Split, build_samples, split_in_time
from ktrdr.work import WorkContext, WorkResult

LIBRARIES: Final = ("scikit-learn", "skops", "numpy", "pandas")


def run(parameters: TrainingParameters, context: WorkContext) -> WorkResult:
    """Train a model, and write it with its report and data to ``context.output``.

    Raises:
        InvalidParameters: Data or feature set does not exist, or there is too little data.
    """
    feature_set = load_feature_set(parameters.features, context.shared / "strategies")
    bars = read_bars(
        context.shared / "data",
        parameters.symbol,
        parameters.timeframe,
        parameters.start,
        parameters.end,
    )
    samples = build_samples(bars, parameters.horizon_bars, feature_set.features)
    split = split_in_time(
        samples,
        validation_fraction=parameters.validation_fraction,
        test_fraction=parameters.test_fraction,
        horizon=parameters.horizon_bars,
    )
    made_from = {
        "data": bars.data_hash,
        "features": describe_features(feature_set.features),
        "code": code_version(),
        "libraries": library_versions(LIBRARIES),
    }
    progress = _train(parameters, samples, split, context, made_from)
    classifier = Classifier.load(progress.best_model)
    result = TrainingResult(
        bars=bars,
        parameters=parameters,
        feature_set=feature_set,
        samples=samples,
        split=split,
        epochs=progress.epochs,
        best=best_epoch(progress.epochs),
        evaluation=evaluate_holdout(classifier, samples, split, parameters.horizon_bars),
    )
    _write_model(result, normalise_archive(progress.best_model), context)
    _write_json(context.output / "epochs.json", [asdict(metrics) for metrics in progress.epochs])
    write_report(result, context.output / "report.html")
    return WorkResult(summary=summarise_result(result), model=parameters.model_name)


def _train(
    parameters: TrainingParameters,
    samples: Samples,
    split: Split,
    context: WorkContext,
    made_from: Mapping[str, Any],
) -> TrainingProgress:
    """Train until the limit or early stopping; ``made_from`` are all inputs of the weights."""
    features, labels = samples.features[split.train], samples.labels[split.train]
    progress = restore_progress(context.resume_from, made_from)
    progress = progress or TrainingProgress(Classifier.untrained(parameters, features))
    while not should_stop_training(
        progress.epochs, limit=parameters.epochs, patience=parameters.patience
    ):
        progress.classifier.train_epoch(features, labels)
        metrics = _evaluate_epoch(progress, samples, split)
        progress.add_epoch(metrics)
        context.progress(
            metrics.number / parameters.epochs,
            f"epoch {metrics.number} of {parameters.epochs}, loss {metrics.validation_loss:.4f}",
        )
        state, files = progress.checkpoint_state(made_from), progress.checkpoint_files()
        context.checkpoint(metrics.number, state, files)
    return progress


def _evaluate_epoch(progress: TrainingProgress, samples: Samples, split: Split) -> EpochMetrics:
    losses, accuracies = zip(
        *(
            progress.classifier.evaluate(samples.features[part], samples.labels[part])
            for part in (split.train, split.validation)
        ),
        strict=True,
    )
    return EpochMetrics(len(progress.epochs) + 1, *losses, *accuracies)


def _write_model(result: TrainingResult, content: bytes, context: WorkContext) -> None:
    """Write the model, with metadata that documents it and allows its use later."""
    directory, bars, parameters = context.output / "model", result.bars, result.parameters
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
        "trained_until": bars.times[result.last_bar_used].isoformat(),
        "features": describe_features(result.feature_set.features),
        "classes": {"0": "falls or stays", "1": "rises"},
        "metrics": summarise_result(result),
        "code": code_version(),
        "libraries": library_versions(LIBRARIES),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    _write_json(directory / METADATA_FILE, metadata)


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8")
