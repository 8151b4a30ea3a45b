"""Evaluation of the final model on the test samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from ktrdr.training.model import CLASSES, Classifier
from ktrdr.training.samples import Samples, Split


@dataclass(frozen=True)
class HoldoutEvaluation:
    """Metrics of a model on the test samples, beside those of a baseline without features.

    Attributes:
        loss: Log loss of the model.
        accuracy: Share of correct predictions of the model.
        baseline_loss: Log loss of always predicting the share of rises in the training.
        baseline_accuracy: Accuracy of always predicting the more frequent class of the training.
        edge_stderr: Standard error of the difference between the two accuracies.
        confusion: Counts by true class (rows) and predicted class (columns).
    """

    loss: float
    accuracy: float
    baseline_loss: float
    baseline_accuracy: float
    edge_stderr: float
    confusion: NDArray[np.int64]

    @property
    def edge(self) -> float:
        """Accuracy of the model less that of the baseline."""
        return self.accuracy - self.baseline_accuracy

    @property
    def is_significant(self) -> bool:
        """True if the edge is more than two standard errors."""
        return self.edge > 2 * self.edge_stderr


def evaluate_holdout(
    classifier: Classifier, samples: Samples, split: Split, horizon: int
) -> HoldoutEvaluation:
    """Compare a model with a baseline that knows only the share of rises in the training."""
    labels = samples.labels[split.test]
    probabilities = classifier.predict_probabilities(samples.features[split.test])
    predicted = (probabilities > 0.5).astype(np.int64)
    base_rate = float(np.mean(samples.labels[split.train]))
    baseline = np.full(len(labels), int(base_rate >= 0.5))
    confusion = np.array(
        [
            [np.sum((labels == actual) & (predicted == label)) for label in CLASSES]
            for actual in CLASSES
        ]
    )
    return HoldoutEvaluation(
        loss=float(log_loss(labels, probabilities, labels=CLASSES)),
        accuracy=float(np.mean(predicted == labels)),
        baseline_loss=float(log_loss(labels, np.full(len(labels), base_rate), labels=CLASSES)),
        baseline_accuracy=float(np.mean(baseline == labels)),
        edge_stderr=edge_stderr(predicted == labels, baseline == labels, horizon),
        confusion=confusion,
    )


def edge_stderr(
    model_correct: NDArray[np.bool_], baseline_correct: NDArray[np.bool_], horizon: int
) -> float:
    """Return the standard error of the mean difference: std(d) / sqrt(m / h).

    A difference d is 1, 0 or -1: the model's correctness less the baseline's. Labels over
    ``horizon`` (h) bars overlap, so that m samples have only as much information as m / h
    independent ones. Source: the paired difference of T. G. Dietterich, Neural Computation 10(7),
    1998, with that correction.
    """
    differences = model_correct.astype(np.float64) - baseline_correct.astype(np.float64)
    independent = max(len(differences) / horizon, 1.0)
    return float(np.std(differences, ddof=1)) / math.sqrt(independent)
