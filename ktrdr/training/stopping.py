"""When to stop learning, and which epoch to keep: decided by the validation part alone."""

from __future__ import annotations

from collections.abc import Sequence

from ktrdr.training.model import Epoch


def best_of(epochs: Sequence[Epoch]) -> Epoch:
    """The epoch with the least validation loss; the first of equals."""
    return min(epochs, key=lambda epoch: epoch.validation_loss)


def has_ended(epochs: Sequence[Epoch], *, limit: int, patience: int) -> bool:
    """Whether no further epoch is to be tried.

    Either there are as many as there may be, or the last ``patience`` were not better than one
    before them. Source: L. Prechelt, "Early Stopping - But When?", in "Neural Networks: Tricks of
    the Trade", 1998, the criterion UP in its simplest form.
    """
    if not epochs:
        return False
    return len(epochs) >= limit or epochs[-1].number - best_of(epochs).number >= patience
