"""Progress of a training: its epochs, early stopping, and checkpoints."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from ktrdr.errors import InvalidParameters
from ktrdr.training.model import Classifier, EpochMetrics
from ktrdr.training.model_store import MODEL_FILE
from ktrdr.work import Checkpoint

logger = logging.getLogger(__name__)

BEST_FILE: Final = "best.skops"
_KEYS: Final = {"made_from", "epochs"}


@dataclass
class TrainingProgress:
    """State of a training after some epochs.

    Attributes:
        classifier: Classifier after the last epoch.
        last_model: File of that classifier.
        best_model: File of the classifier with the lowest validation loss so far.
        epochs: Metrics of the completed epochs.
    """

    classifier: Classifier
    last_model: bytes = b""
    best_model: bytes = b""
    epochs: list[EpochMetrics] = field(default_factory=list)

    def add_epoch(self, metrics: EpochMetrics) -> None:
        """Record the epoch that the classifier has just completed."""
        self.epochs.append(metrics)
        self.last_model = self.classifier.dump()
        if best_epoch(self.epochs) is metrics:
            self.best_model = self.last_model

    def checkpoint_state(self, made_from: Mapping[str, Any]) -> dict[str, Any]:
        """Return the state of a checkpoint, for JSON."""
        return {
            "made_from": dict(made_from),
            "epochs": [asdict(metrics) for metrics in self.epochs],
        }

    def checkpoint_files(self) -> dict[str, bytes]:
        """Return the files of a checkpoint."""
        return {MODEL_FILE: self.last_model, BEST_FILE: self.best_model}


def best_epoch(epochs: Sequence[EpochMetrics]) -> EpochMetrics:
    """Return the first epoch with the lowest validation loss."""
    return min(epochs, key=lambda metrics: metrics.validation_loss)


def should_stop_training(epochs: Sequence[EpochMetrics], *, limit: int, patience: int) -> bool:
    """Return whether to stop: at the limit, or after ``patience`` epochs without improvement.

    Source: L. Prechelt, "Early Stopping - But When?", in "Neural Networks: Tricks of the Trade",
    1998, the criterion UP in its simplest form.
    """
    if not epochs:
        return False
    return len(epochs) >= limit or epochs[-1].number - best_epoch(epochs).number >= patience


def restore_progress(
    checkpoint: Checkpoint | None, made_from: Mapping[str, Any]
) -> TrainingProgress | None:
    """Return the progress from a checkpoint, or None if there is none or it does not fit.

    Starting over costs only time: a training ends the same either way. So a checkpoint that cannot
    be read, or that was made from other data or with another release or library, is ignored, and
    the log says why.
    """
    if checkpoint is None:
        return None
    try:
        return _read_checkpoint(checkpoint, made_from)
    except (InvalidParameters, OSError, ValueError, TypeError) as exc:
        logger.warning("starting over: the checkpoint cannot be used: %s", exc)
        return None


def _read_checkpoint(checkpoint: Checkpoint, made_from: Mapping[str, Any]) -> TrainingProgress:
    if checkpoint.artifacts is None or set(checkpoint.state) != _KEYS:
        raise ValueError("it was written by another release")
    if checkpoint.state["made_from"] != made_from:
        raise ValueError("it was made from other data or by other code")
    epochs = [EpochMetrics(**metrics) for metrics in checkpoint.state["epochs"]]
    numbers = [metrics.number for metrics in epochs]
    if numbers != list(range(1, checkpoint.step + 1)) or not epochs:
        raise ValueError("it contains a different number of epochs than it states")
    if not all(math.isfinite(value) for metrics in epochs for value in asdict(metrics).values()):
        raise ValueError("it contains an invalid epoch")
    best_model = (checkpoint.artifacts / BEST_FILE).read_bytes()
    # Load the best model too, so that a damaged file fails now and not after all epochs.
    Classifier.load(best_model)
    last_model = (checkpoint.artifacts / MODEL_FILE).read_bytes()
    return TrainingProgress(Classifier.load(last_model), last_model, best_model, epochs)
