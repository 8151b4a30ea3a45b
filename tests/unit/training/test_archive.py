"""The same model is the same file."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from ktrdr.schemas import TrainingParameters
from ktrdr.training.archive import normalised
from ktrdr.training.model import Classifier

FEATURES = np.random.default_rng(1).normal(5, 3, (300, 4))
LABELS = (FEATURES.sum(axis=1) > 20).astype(np.int64)


def trained(hidden: tuple[int, ...], epochs: int = 5, reload_after: int = 99) -> Classifier:
    model = Classifier.new(TrainingParameters(symbol="X", hidden_units=hidden, seed=3), FEATURES)
    for epoch in range(epochs):
        if epoch == reload_after:
            model = Classifier.load(model.dump())
        model.learn(FEATURES, LABELS)
    return model


@pytest.mark.parametrize("hidden", [(), (4,), (8, 8), (3, 5, 7)])
@pytest.mark.parametrize("reload_after", [1, 4])
def test_a_model_that_was_stored_midway_ends_as_the_same_bytes(hidden, reload_after: int) -> None:
    whole, resumed = trained(hidden), trained(hidden, reload_after=reload_after)
    assert normalised(whole.dump()) == normalised(resumed.dump())


def test_another_model_is_another_file() -> None:
    one, other = trained((4,)), trained((4,), epochs=6)
    assert normalised(one.dump()) != normalised(other.dump())


def test_a_file_holds_no_time_of_day_and_can_be_stored_again() -> None:
    content = normalised(trained((4,)).dump())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {each.date_time[0] for each in archive.infolist()} == {1980}
    assert normalised(Classifier.load(content).dump()) == content
    assert normalised(content) == content
