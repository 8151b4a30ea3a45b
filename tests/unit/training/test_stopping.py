"""Learning ends when the validation has not improved for long enough, and the best is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.training.model import Epoch
from ktrdr.training.stopping import best_of, has_ended


def epochs(losses: list[float]) -> list[Epoch]:
    return [Epoch(number, 0.0, loss, 0.0, 0.0) for number, loss in enumerate(losses, start=1)]


@pytest.mark.parametrize(
    ("losses", "ended"),
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
def test_two_epochs_in_vain_or_five_in_all_are_enough(losses, ended: bool) -> None:
    assert has_ended(epochs(losses), limit=5, patience=2) is ended


@given(st.lists(st.floats(0, 9), min_size=1, max_size=30), st.integers(1, 10))
def test_the_best_is_the_first_with_the_least_loss_and_nothing_ends_before_its_time(
    losses: list[float], patience: int
) -> None:
    found = epochs(losses)
    assert best_of(found).number == losses.index(min(losses)) + 1
    in_vain = len(losses) - 1 - losses.index(min(losses))
    assert has_ended(found, limit=99, patience=patience) is (in_vain >= patience)
