"""Classifier: a scaler and a neural network, trained epoch by epoch.

Models and checkpoints are stored with skops, which loads only the types listed here. A pickle could
execute anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import skops.io
from numpy.typing import NDArray
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from ktrdr.errors import InvalidParameters
from ktrdr.marketdata.bars import Floats
from ktrdr.schemas import TrainingParameters

CLASSES: Final = np.array([0, 1])
TRUSTED_TYPES: Final = ("sklearn.neural_network._stochastic_optimizers.AdamOptimizer",)


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """Log loss and accuracy of the model after an epoch."""

    number: int
    train_loss: float
    validation_loss: float
    train_accuracy: float
    validation_accuracy: float


class Classifier:
    """A scaler and a network that learn one epoch at a time."""

    def __init__(self, scaler: StandardScaler, network: MLPClassifier) -> None:
        self._scaler = scaler
        self._network = network

    @classmethod
    def untrained(cls, parameters: TrainingParameters, train: Floats) -> Classifier:
        """Return an untrained network, with a scaler fitted to the training samples."""
        network = MLPClassifier(
            hidden_layer_sizes=parameters.hidden_units,
            learning_rate_init=parameters.learning_rate,
            random_state=parameters.seed,
        )
        return cls(StandardScaler().fit(train), network)

    def train_epoch(self, features: Floats, labels: NDArray[np.int64]) -> None:
        """Train on all samples once, in batches shuffled by the network's own generator."""
        self._network.partial_fit(self._scaler.transform(features), labels, classes=CLASSES)

    def predict_probabilities(self, features: Floats) -> Floats:
        """Return each row's probability that the price rises."""
        scaled = self._scaler.transform(features)
        probabilities: Floats = self._network.predict_proba(scaled)[:, 1]
        return probabilities

    def evaluate(self, features: Floats, labels: NDArray[np.int64]) -> tuple[float, float]:
        """Return log loss and accuracy."""
        probabilities = self.predict_probabilities(features)
        return (
            float(log_loss(labels, probabilities, labels=CLASSES)),
            float(np.mean((probabilities > 0.5) == labels)),
        )

    def dump(self) -> bytes:
        """Return the complete state, from which training can continue."""
        content: bytes = skops.io.dumps({"scaler": self._scaler, "network": self._network})
        return content

    @property
    def feature_count(self) -> int:
        """Number of features that the model needs."""
        return int(self._scaler.n_features_in_)

    @classmethod
    def load(cls, content: bytes) -> Classifier:
        """Return the classifier from the output of ``dump``.

        Raises:
            InvalidParameters: The file is damaged or contains types other than a classifier's.
        """
        try:
            parts: dict[str, Any] = skops.io.loads(content, trusted=list(TRUSTED_TYPES))
            classifier = cls(parts["scaler"], parts["network"])
            # A file can be readable and still contain a model that cannot predict.
            classifier.predict_probabilities(np.zeros((1, classifier.feature_count)))
        except Exception as exc:
            raise InvalidParameters(
                f"the stored model cannot be read ({type(exc).__name__})",
                hint="Train it again with this release.",
            ) from exc
        return classifier
