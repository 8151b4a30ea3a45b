"""Training stops early when the validation loss no longer improves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.training.model import EpochMetrics
from ktrdr.training.progress import best_epoch, should_stop_training


def epochs(losses: list[float]) -> list[EpochMetrics]:
    return [
        EpochMetrics(number, 0.0, loss, 0.0, 0.0) for number, loss in enumerate(losses, start=1)
    ]


@pytest.mark.parametrize(
    ("losses", "stops"),
    [
        ([], False),
        ([3], False),
        ([3, 4], False),
        ([3, 4, 4], True),
        ([3, 3, 3], True),
        ([3, 4, 2], False),
        ([5, 4, 3, 2], False),
        ([5, 4, 3, 2, 1], True),
    ],
)
def test_training_stops_after_two_epochs_without_improvement_or_five_in_total(
    losses, stops: bool
) -> None:
    assert should_stop_training(epochs(losses), limit=5, patience=2) is stops


@given(st.lists(st.floats(0, 9), min_size=1, max_size=30), st.integers(1, 10))
def test_the_best_epoch_is_the_first_with_the_lowest_loss_and_resets_the_patience(
    losses: list[float], patience: int
) -> None:
    metrics = epochs(losses)
    assert best_epoch(metrics).number == losses.index(min(losses)) + 1
    without_improvement = len(losses) - 1 - losses.index(min(losses))
    assert should_stop_training(metrics, limit=99, patience=patience) is (
        without_improvement >= patience
    )
