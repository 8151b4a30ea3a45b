"""Results of a training and their summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ktrdr.marketdata.bars import Bars
from ktrdr.schemas import TrainingParameters
from ktrdr.strategies.document import FeatureSet
from ktrdr.training.evaluation import HoldoutEvaluation
from ktrdr.training.model import EpochMetrics
from ktrdr.training.samples import Samples, Split


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training. The model of the epoch ``best`` is kept."""

    bars: Bars
    parameters: TrainingParameters
    feature_set: FeatureSet
    samples: Samples
    split: Split
    epochs: Sequence[EpochMetrics]
    best: EpochMetrics
    evaluation: HoldoutEvaluation

    @property
    def last_bar_used(self) -> int:
        """Index of the last bar that a label of training or validation depends on."""
        last_sample = self.split.validation[-1]
        return int(self.samples.bar_indexes[last_sample]) + self.parameters.horizon_bars


def summarise_result(result: TrainingResult) -> dict[str, Any]:
    """Return the metrics of the kept model and of the baseline."""
    best, evaluation, split = result.best, result.evaluation, result.split
    return {
        "test_accuracy": evaluation.accuracy,
        "baseline_accuracy": evaluation.baseline_accuracy,
        "edge": evaluation.edge,
        "edge_standard_error": evaluation.edge_stderr,
        "test_loss": evaluation.loss,
        "baseline_loss": evaluation.baseline_loss,
        "train_accuracy": best.train_accuracy,
        "train_loss": best.train_loss,
        "validation_accuracy": best.validation_accuracy,
        "validation_loss": best.validation_loss,
        "epochs": len(result.epochs),
        "best_epoch": best.number,
        "train_samples": len(split.train),
        "validation_samples": len(split.validation),
        "test_samples": len(split.test),
        "data_hash": result.bars.data_hash,
    }
