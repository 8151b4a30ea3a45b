"""The judgement: the model's figures on the test, beside those of a model that knows nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ktrdr.schemas import TrainingParameters
from ktrdr.training.features import Samples
from ktrdr.training.judging import edge_error, judge
from ktrdr.training.model import Classifier
from ktrdr.training.split import Split

GENERATOR = np.random.default_rng(5)
FEATURES = GENERATOR.normal(0, 1, (400, 2))


def judged(labels: np.ndarray, epochs: int = 60):
    samples = Samples(FEATURES, labels, np.arange(400), ("a", "b"))
    split = Split(np.arange(200), np.arange(200, 250), np.arange(250, 400))
    parameters = TrainingParameters(symbol="X", hidden_units=(), learning_rate=0.05)
    model = Classifier.new(parameters, FEATURES[:200])
    for _ in range(epochs):
        model.learn(FEATURES[:200], labels[:200])
    return model, judge(model, samples, split, 1)


def test_what_can_be_learnt_beats_the_baseline_clearly() -> None:
    _, found = judged((FEATURES.sum(axis=1) > 0).astype(np.int64))
    assert found.accuracy > 0.9
    assert found.loss < found.baseline_loss / 2
    assert found.is_clear


def test_noise_does_not() -> None:
    _, found = judged(GENERATOR.integers(0, 2, 400))
    assert not found.is_clear
    assert found.loss > 0.6


def test_every_figure_is_what_plain_numpy_makes_of_the_probabilities() -> None:
    labels = (GENERATOR.random(400) < 0.7).astype(np.int64)
    model, found = judged(labels, epochs=3)
    test, rises = labels[250:], model.probabilities(FEATURES[250:])
    rate = labels[:200].mean()
    said = rises > 0.5
    assert found.accuracy == pytest.approx((said == test).mean(), abs=1e-9)
    assert found.baseline_accuracy == pytest.approx(test.mean(), abs=1e-9)
    chosen = np.where(test == 1, rises, 1 - rises)
    assert found.loss == pytest.approx(-np.log(chosen).mean(), rel=1e-9)
    usual = np.where(test == 1, rate, 1 - rate)
    assert found.baseline_loss == pytest.approx(-np.log(usual).mean(), rel=1e-9)
    assert found.confusion.sum() == len(test)
    assert found.confusion[1, 1] == (said & (test == 1)).sum()


def test_labels_that_overlap_count_for_less() -> None:
    ours, theirs = np.array([True, True, False, True] * 25), np.array([True, False] * 50)
    d = ours.astype(int) - theirs.astype(int)
    alone = d.std(ddof=1) / math.sqrt(100)
    assert edge_error(ours, theirs, 1) == pytest.approx(alone, rel=1e-9)
    assert edge_error(ours, theirs, 4) == pytest.approx(2 * alone, rel=1e-9)
