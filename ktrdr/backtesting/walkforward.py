"""Walk-forward selection: parameters are chosen on past bars and used on the bars that follow.

Source: R. Pardo, "The Evaluation and Optimization of Trading Strategies", 2nd ed., 2008, ch. 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from ktrdr.backtesting.engine import Weights
from ktrdr.backtesting.statistics import sharpe_ratio
from ktrdr.backtesting.target_weights import TargetWeights
from ktrdr.errors import InvalidParameters
from ktrdr.marketdata.bars import Floats
from ktrdr.strategies.grid import Combination

MIN_TEST_BARS: Final = 2


@dataclass(frozen=True, slots=True)
class Fold:
    """A step of the walk: training bars that choose parameters, and test bars that are traded.

    Attributes:
        number: Number of the fold, counted from 1.
        train_start: Index of the first training bar.
        test_start: Index of the first test bar, one after the last training bar.
        test_end: Index after the last test bar.
    """

    number: int
    train_start: int
    test_start: int
    test_end: int


@dataclass(frozen=True, slots=True)
class ParameterChoice:
    """The parameters chosen for a fold, with their Sharpe ratio in the training bars."""

    parameters: Combination
    sharpe: float


def plan_folds(bars: int, *, folds: int, train_bars: int) -> list[Fold]:
    """Divide the bars after the first ``train_bars`` into folds of nearly equal length.

    Raises:
        InvalidParameters: There are too few bars.
    """
    needed = train_bars + folds * MIN_TEST_BARS
    if bars < needed:
        raise InvalidParameters(
            f"{bars} bars are too few for {folds} folds after {train_bars} training bars",
            hint=f"Use fewer folds, a smaller train_bars or more data; this needs {needed} bars.",
        )
    edges = np.linspace(train_bars, bars, folds + 1).round().astype(int).tolist()
    return [
        Fold(number, start - train_bars, start, end)
        for number, (start, end) in enumerate(pairwise(edges), start=1)
    ]


def net_returns(closes: Floats, weights: Weights, cost_rate: float) -> Floats:
    """Return the returns of holding ``weights``, less ``cost_rate`` for every unit of change.

    The return at t is that of the weight at t-1, from close t-1 to close t. A change at close t
    costs at t. The first return is only the cost of the first weight. Weights below 1 are treated
    as if they were rebalanced at every close, which is accurate enough for a choice.
    """
    costs = np.abs(np.diff(weights, prepend=0.0)) * cost_rate
    return np.concatenate(([0.0], weights[:-1] * (closes[1:] / closes[:-1] - 1))) - costs


def choose_parameters(
    closes: Floats,
    fold: Fold,
    combinations: Sequence[Combination],
    target_weights: TargetWeights,
    *,
    cost_rate: float,
    bars_per_year: float,
) -> ParameterChoice:
    """Return the parameters with the highest Sharpe ratio in the fold's training bars.

    Among equal ratios the first counts, and an undefined ratio counts as 0. The weights up to
    ``test_start`` depend on no later bar.
    """
    best: ParameterChoice | None = None
    training = slice(fold.train_start, fold.test_start)
    for combination in combinations:
        weights = target_weights.compute(combination)[training]
        ratio = sharpe_ratio(net_returns(closes[training], weights, cost_rate), bars_per_year)
        choice = ParameterChoice(combination, 0.0 if ratio is None else ratio)
        if best is None or choice.sharpe > best.sharpe:
            best = choice
    assert best is not None  # noqa: S101  # a grid without combinations was rejected before
    return best


def out_of_sample_weights(
    folds: Sequence[Fold], choices: Sequence[ParameterChoice], target_weights: TargetWeights
) -> Weights:
    """Return the weights from the first test bar on, with each fold's own parameters.

    A fold begins with the weight that its parameters would hold if they had always been used.
    """
    return np.concatenate(
        [
            target_weights.compute(choice.parameters)[fold.test_start : fold.test_end]
            for fold, choice in zip(folds, choices, strict=True)
        ]
    )
