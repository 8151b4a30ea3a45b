"""The test: asked once, by the model that is kept."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from ktrdr.training.features import Samples
from ktrdr.training.model import CLASSES, Classifier
from ktrdr.training.outcome import Judgement
from ktrdr.training.split import Split

Labels = NDArray[np.int64]


def judge(classifier: Classifier, samples: Samples, split: Split, horizon: int) -> Judgement:
    """Compares a model with one that knows nothing but how often prices rose in the training."""
    labels = samples.labels[split.test]
    rises = classifier.probabilities(samples.features[split.test])
    said = (rises > 0.5).astype(np.int64)
    base_rate = float(np.mean(samples.labels[split.train]))
    usual = np.full(len(labels), int(base_rate >= 0.5))
    confusion = np.array(
        [[np.sum((labels == true) & (said == each)) for each in CLASSES] for true in CLASSES]
    )
    return Judgement(
        loss=float(log_loss(labels, rises, labels=CLASSES)),
        accuracy=float(np.mean(said == labels)),
        baseline_loss=float(log_loss(labels, np.full(len(labels), base_rate), labels=CLASSES)),
        baseline_accuracy=float(np.mean(usual == labels)),
        edge_error=edge_error(said == labels, usual == labels, horizon),
        confusion=confusion,
    )


def edge_error(ours: NDArray[np.bool_], theirs: NDArray[np.bool_], horizon: int) -> float:
    """The standard error of the mean difference: std(d) / sqrt(m / h).

    Each d is 1, 0 or -1: whether one was right, less whether the other was. Labels of ``horizon``
    (h) bars overlap, so m samples tell no more than m / h would that do not. Source: the paired
    difference of T. G. Dietterich, Neural Computation 10(7), 1998, with that correction.
    """
    differences = ours.astype(np.float64) - theirs.astype(np.float64)
    independent = max(len(differences) / horizon, 1.0)
    return float(np.std(differences, ddof=1)) / math.sqrt(independent)
