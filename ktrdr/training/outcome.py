"""A finished training, and what a summary says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ktrdr.marketdata.bars import Bars
from ktrdr.schemas import TrainingParameters
from ktrdr.strategies.document import FeatureSet
from ktrdr.training.features import Samples
from ktrdr.training.model import Epoch
from ktrdr.training.split import Split


@dataclass(frozen=True)
class Judgement:
    """How the kept model does on the test, beside one that knows no feature.

    Attributes:
        loss: Log loss on the test, and ``baseline_loss`` that of always giving the share of rises
            in the training as the probability.
        accuracy: Share of right answers, and ``baseline_accuracy`` that of always saying what was
            more frequent in the training.
        edge_error: The standard error of the difference between the two accuracies.
        confusion: Counts by true class (rows) and predicted class (columns).
    """

    loss: float
    accuracy: float
    baseline_loss: float
    baseline_accuracy: float
    edge_error: float
    confusion: NDArray[np.int64]

    @property
    def edge(self) -> float:
        """By how much more often the model is right."""
        return self.accuracy - self.baseline_accuracy

    @property
    def is_clear(self) -> bool:
        """Whether the edge is more than two standard errors, and so hardly luck."""
        return self.edge > 2 * self.edge_error


@dataclass(frozen=True)
class Outcome:
    """A finished training; ``best`` is the epoch whose model is kept."""

    bars: Bars
    parameters: TrainingParameters
    feature_set: FeatureSet
    samples: Samples
    split: Split
    epochs: Sequence[Epoch]
    best: Epoch
    judgement: Judgement

    def last_bar_learnt_from(self) -> int:
        """The last bar that a label of training or validation has looked at."""
        return int(self.samples.index[self.split.validation[-1]]) + self.parameters.horizon_bars


def summary_of(outcome: Outcome) -> dict[str, Any]:
    """The kept model's figures, beside the baseline's."""
    best, judged = outcome.best, outcome.judgement
    return {
        "test_accuracy": judged.accuracy,
        "baseline_accuracy": judged.baseline_accuracy,
        "edge": judged.edge,
        "edge_standard_error": judged.edge_error,
        "test_loss": judged.loss,
        "baseline_loss": judged.baseline_loss,
        "train_accuracy": best.train_accuracy,
        "train_loss": best.train_loss,
        "validation_accuracy": best.validation_accuracy,
        "validation_loss": best.validation_loss,
        "epochs": len(outcome.epochs),
        "best_epoch": best.number,
        "train_samples": len(outcome.split.train),
        "validation_samples": len(outcome.split.validation),
        "test_samples": len(outcome.split.test),
        "data_hash": outcome.bars.data_hash,
    }
