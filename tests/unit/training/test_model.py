"""Classifiers learn, are reproducible, and continue after being stored."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss

from ktrdr.schemas import TrainingParameters
from ktrdr.training.model import Classifier

PARAMETERS = TrainingParameters(symbol="TEST", hidden_units=(8,), learning_rate=0.01, seed=3)
FEATURES = np.random.default_rng(1).normal(5, 3, (400, 2))
LABELS = (FEATURES.sum(axis=1) > 10).astype(np.int64)


def train(epochs: int, parameters: TrainingParameters = PARAMETERS) -> Classifier:
    model = Classifier.untrained(parameters, FEATURES)
    for _ in range(epochs):
        model.train_epoch(FEATURES, LABELS)
    return model


def test_training_learns_a_linear_pattern_and_reduces_the_loss() -> None:
    early, accuracy_before = train(1).evaluate(FEATURES, LABELS)
    late, accuracy_after = train(80).evaluate(FEATURES, LABELS)
    assert late < early / 2
    assert accuracy_after > max(accuracy_before, 0.95)


def test_loss_and_accuracy_follow_from_the_probabilities() -> None:
    model = train(3)
    probabilities = model.predict_probabilities(FEATURES)
    loss, accuracy = model.evaluate(FEATURES, LABELS)
    assert loss == pytest.approx(log_loss(LABELS, probabilities))
    assert accuracy == np.mean((probabilities > 0.5) == (LABELS == 1))


def test_only_equal_seeds_give_equal_models() -> None:
    other = PARAMETERS.model_copy(update={"seed": 4})
    first, same, different = train(2), train(2), train(2, other)
    np.testing.assert_array_equal(
        first.predict_probabilities(FEATURES), same.predict_probabilities(FEATURES)
    )
    assert not np.array_equal(
        first.predict_probabilities(FEATURES), different.predict_probabilities(FEATURES)
    )


def test_a_stored_model_continues_its_training() -> None:
    whole, resumed = train(4), Classifier.load(train(2).dump())
    resumed.train_epoch(FEATURES, LABELS)
    resumed.train_epoch(FEATURES, LABELS)
    np.testing.assert_array_equal(
        whole.predict_probabilities(FEATURES), resumed.predict_probabilities(FEATURES)
    )


def test_a_training_with_one_class_only_still_gives_two_probabilities() -> None:
    model = Classifier.untrained(PARAMETERS, FEATURES)
    model.train_epoch(FEATURES, np.ones_like(LABELS))
    loss, _ = model.evaluate(FEATURES, np.ones_like(LABELS))
    assert np.isfinite(loss)
