"""The classifier learns what there is to learn, from the training alone, and repeats itself."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss

from ktrdr.schemas import TrainingParameters
from ktrdr.training.model import Classifier

PARAMETERS = TrainingParameters(symbol="TEST", hidden_units=(8,), learning_rate=0.01, seed=3)
FEATURES = np.random.default_rng(1).normal(5, 3, (400, 2))
LABELS = (FEATURES.sum(axis=1) > 10).astype(np.int64)


def trained(epochs: int, parameters: TrainingParameters = PARAMETERS) -> Classifier:
    model = Classifier.new(parameters, FEATURES)
    for _ in range(epochs):
        model.learn(FEATURES, LABELS)
    return model


def test_it_learns_a_line_and_its_loss_falls() -> None:
    early, accuracy_before = trained(1).evaluate(FEATURES, LABELS)
    late, accuracy_after = trained(80).evaluate(FEATURES, LABELS)
    assert late < early / 2
    assert accuracy_after > max(accuracy_before, 0.95)


def test_loss_and_accuracy_are_those_of_its_probabilities() -> None:
    model = trained(3)
    rises = model.probabilities(FEATURES)
    loss, accuracy = model.evaluate(FEATURES, LABELS)
    assert loss == pytest.approx(log_loss(LABELS, rises))
    assert accuracy == np.mean((rises > 0.5) == (LABELS == 1))


def test_the_same_seed_gives_the_same_model_and_another_seed_another() -> None:
    other = PARAMETERS.model_copy(update={"seed": 4})
    first, again, different = trained(2), trained(2), trained(2, other)
    np.testing.assert_array_equal(first.probabilities(FEATURES), again.probabilities(FEATURES))
    assert not np.array_equal(first.probabilities(FEATURES), different.probabilities(FEATURES))


def test_a_stored_model_goes_on_learning_where_it_stopped() -> None:
    whole, resumed = trained(4), Classifier.load(trained(2).dump())
    resumed.learn(FEATURES, LABELS)
    resumed.learn(FEATURES, LABELS)
    np.testing.assert_array_equal(whole.probabilities(FEATURES), resumed.probabilities(FEATURES))


def test_a_training_with_one_class_only_still_gives_two_probabilities() -> None:
    model = Classifier.new(PARAMETERS, FEATURES)
    model.learn(FEATURES, np.ones_like(LABELS))
    loss, _ = model.evaluate(FEATURES, np.ones_like(LABELS))
    assert np.isfinite(loss)
