"""The classifier: a scaler fitted on the training samples, a neural network trained by epochs.

Models and checkpoints are written with skops, which loads nothing but the types named here; a
pickle could run anything.
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
TRUSTED: Final = ("sklearn.neural_network._stochastic_optimizers.AdamOptimizer",)


@dataclass(frozen=True, slots=True)
class Epoch:
    """How the model did after an epoch: log loss and share of right answers."""

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
    def new(cls, parameters: TrainingParameters, train: Floats) -> Classifier:
        """An untrained network, and a scaler that knows the training samples alone."""
        network = MLPClassifier(
            hidden_layer_sizes=parameters.hidden_units,
            learning_rate_init=parameters.learning_rate,
            random_state=parameters.seed,
        )
        return cls(StandardScaler().fit(train), network)

    def learn(self, features: Floats, labels: NDArray[np.int64]) -> None:
        """One pass over the samples, in batches shuffled by the network's own generator."""
        self._network.partial_fit(self._scaler.transform(features), labels, classes=CLASSES)

    def probabilities(self, features: Floats) -> Floats:
        """For each row, the probability that the price rises."""
        found: Floats = self._network.predict_proba(self._scaler.transform(features))[:, 1]
        return found

    def evaluate(self, features: Floats, labels: NDArray[np.int64]) -> tuple[float, float]:
        """Log loss and accuracy."""
        rises = self.probabilities(features)
        return (
            float(log_loss(labels, rises, labels=CLASSES)),
            float(np.mean((rises > 0.5) == labels)),
        )

    def dump(self) -> bytes:
        """Everything that is needed to go on learning, or to predict."""
        content: bytes = skops.io.dumps({"scaler": self._scaler, "network": self._network})
        return content

    @property
    def width(self) -> int:
        """How many features it looks at."""
        return int(self._scaler.n_features_in_)

    @classmethod
    def load(cls, content: bytes) -> Classifier:
        """The classifier that ``dump`` gave.

        Raises:
            InvalidParameters: The file is broken or holds types that are not a classifier's.
        """
        try:
            parts: dict[str, Any] = skops.io.loads(content, trusted=list(TRUSTED))
            return _checked(cls(parts["scaler"], parts["network"]))
        except Exception as exc:
            raise InvalidParameters(
                f"the stored model cannot be read ({type(exc).__name__})",
                hint="Train it again with this release.",
            ) from exc


def _checked(classifier: Classifier) -> Classifier:
    """The classifier, if what a file held is one that can be asked."""
    rows = np.zeros((1, classifier.width))
    classifier.probabilities(rows)
    return classifier
