"""The evaluation compares a model with a baseline on the test samples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ktrdr.schemas import TrainingParameters
from ktrdr.training.evaluation import edge_stderr, evaluate_holdout
from ktrdr.training.model import Classifier
from ktrdr.training.samples import Samples, Split

GENERATOR = np.random.default_rng(5)
FEATURES = GENERATOR.normal(0, 1, (400, 2))


def evaluate(labels: np.ndarray, epochs: int = 60):
    samples = Samples(FEATURES, labels, np.arange(400), ("a", "b"))
    split = Split(np.arange(200), np.arange(200, 250), np.arange(250, 400))
    parameters = TrainingParameters(symbol="X", hidden_units=(), learning_rate=0.05)
    model = Classifier.untrained(parameters, FEATURES[:200])
    for _ in range(epochs):
        model.train_epoch(FEATURES[:200], labels[:200])
    return model, evaluate_holdout(model, samples, split, 1)


def test_a_learnable_pattern_beats_the_baseline_significantly() -> None:
    _, evaluation = evaluate((FEATURES.sum(axis=1) > 0).astype(np.int64))
    assert evaluation.accuracy > 0.9
    assert evaluation.loss < evaluation.baseline_loss / 2
    assert evaluation.is_significant


def test_noise_does_not_beat_the_baseline() -> None:
    _, evaluation = evaluate(GENERATOR.integers(0, 2, 400))
    assert not evaluation.is_significant
    assert evaluation.loss > 0.6


def test_all_metrics_agree_with_plain_numpy() -> None:
    labels = (GENERATOR.random(400) < 0.7).astype(np.int64)
    model, evaluation = evaluate(labels, epochs=3)
    test, rises = labels[250:], model.predict_probabilities(FEATURES[250:])
    rate = labels[:200].mean()
    predicted = rises > 0.5
    assert evaluation.accuracy == pytest.approx((predicted == test).mean(), abs=1e-9)
    assert evaluation.baseline_accuracy == pytest.approx(test.mean(), abs=1e-9)
    chosen = np.where(test == 1, rises, 1 - rises)
    assert evaluation.loss == pytest.approx(-np.log(chosen).mean(), rel=1e-9)
    usual = np.where(test == 1, rate, 1 - rate)
    assert evaluation.baseline_loss == pytest.approx(-np.log(usual).mean(), rel=1e-9)
    assert evaluation.confusion.sum() == len(test)
    assert evaluation.confusion[1, 1] == (predicted & (test == 1)).sum()


def test_overlapping_labels_increase_the_standard_error() -> None:
    model, baseline = np.array([True, True, False, True] * 25), np.array([True, False] * 50)
    d = model.astype(int) - baseline.astype(int)
    alone = d.std(ddof=1) / math.sqrt(100)
    assert edge_stderr(model, baseline, 1) == pytest.approx(alone, rel=1e-9)
    assert edge_stderr(model, baseline, 4) == pytest.approx(2 * alone, rel=1e-9)
