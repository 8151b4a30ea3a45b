"""Equal models have equal files."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from ktrdr.schemas import TrainingParameters
from ktrdr.training.model import Classifier
from ktrdr.training.model_archive import normalise_archive

FEATURES = np.random.default_rng(1).normal(5, 3, (300, 4))
LABELS = (FEATURES.sum(axis=1) > 20).astype(np.int64)


def train(hidden: tuple[int, ...], epochs: int = 5, reload_after: int = 99) -> Classifier:
    model = Classifier.untrained(
        TrainingParameters(symbol="X", hidden_units=hidden, seed=3), FEATURES
    )
    for epoch in range(epochs):
        if epoch == reload_after:
            model = Classifier.load(model.dump())
        model.train_epoch(FEATURES, LABELS)
    return model


@pytest.mark.parametrize("hidden", [(), (4,), (8, 8), (3, 5, 7)])
@pytest.mark.parametrize("reload_after", [1, 4])
def test_a_model_stored_midway_ends_as_the_same_bytes(hidden, reload_after: int) -> None:
    whole, resumed = train(hidden), train(hidden, reload_after=reload_after)
    assert normalise_archive(whole.dump()) == normalise_archive(resumed.dump())


def test_another_model_is_another_file() -> None:
    one, other = train((4,)), train((4,), epochs=6)
    assert normalise_archive(one.dump()) != normalise_archive(other.dump())


def test_a_file_contains_no_time_of_day_and_can_be_stored_again() -> None:
    content = normalise_archive(train((4,)).dump())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {member.date_time[0] for member in archive.infolist()} == {1980}
    assert normalise_archive(Classifier.load(content).dump()) == content
    assert normalise_archive(content) == content
