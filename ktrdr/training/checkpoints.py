"""Where an earlier attempt at a training got to, as far as it can still be used."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from ktrdr.errors import InvalidParameters
from ktrdr.training.model import Classifier, Epoch
from ktrdr.training.stopping import best_of
from ktrdr.training.stored import MODEL_FILE
from ktrdr.work import Checkpoint

logger = logging.getLogger(__name__)

BEST_FILE: Final = "best.skops"
_KEYS: Final = {"made_from", "epochs"}


@dataclass
class Progress:
    """A training under way.

    Attributes:
        classifier: As it is after the last epoch.
        last: Its file, and ``best`` that of the one with the least validation loss yet.
        epochs: Those that are done.
    """

    classifier: Classifier
    last: bytes = b""
    best: bytes = b""
    epochs: list[Epoch] = field(default_factory=list)

    def add(self, epoch: Epoch) -> None:
        """Notes an epoch that the classifier has just been through."""
        self.epochs.append(epoch)
        self.last = self.classifier.dump()
        if best_of(self.epochs) is epoch:
            self.best = self.last

    def state(self, made_from: Mapping[str, Any]) -> dict[str, Any]:
        """What a checkpoint says."""
        return {
            "made_from": dict(made_from),
            "epochs": [asdict(epoch) for epoch in self.epochs],
        }

    def files(self) -> dict[str, bytes]:
        """What a checkpoint keeps beside that."""
        return {MODEL_FILE: self.last, BEST_FILE: self.best}


def resumed(point: Checkpoint | None, made_from: Mapping[str, Any]) -> Progress | None:
    """The training as the checkpoint has it; None if there is none, or anything about it is odd.

    Starting over costs time and nothing else: a training ends the same either way. So whatever was
    learnt from other data, by another release or library, or cannot be read, is left aside, and the
    log says why.
    """
    if point is None:
        return None
    try:
        return _read(point, made_from)
    except (InvalidParameters, OSError, ValueError, TypeError) as fault:
        logger.warning("starting over: the checkpoint cannot be used: %s", fault)
        return None


def _read(point: Checkpoint, made_from: Mapping[str, Any]) -> Progress:
    if point.artifacts is None or set(point.state) != _KEYS:
        raise ValueError("it is not one of this release")
    if point.state["made_from"] != made_from:
        raise ValueError("it was made from other data or by other code")
    epochs = [Epoch(**epoch) for epoch in point.state["epochs"]]
    if [epoch.number for epoch in epochs] != list(range(1, point.step + 1)) or not epochs:
        raise ValueError("it does not hold as many epochs as it says")
    if not all(math.isfinite(value) for epoch in epochs for value in asdict(epoch).values()):
        raise ValueError("it holds an epoch that could not have been")
    best = (point.artifacts / BEST_FILE).read_bytes()
    # Read once, so that a broken file is found now and not when all epochs are done.
    Classifier.load(best)
    last = (point.artifacts / MODEL_FILE).read_bytes()
    return Progress(Classifier.load(last), last, best, epochs)
