"""Walk-forward selection: parameters are chosen on past bars and used on the bars that follow.

After R. Pardo, "The Evaluation and Optimization of Trading Strategies", 2nd ed., 2008, chapter 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from ktrdr.backtesting.decisions import Decisions
from ktrdr.backtesting.engine import Positions
from ktrdr.errors import InvalidParameters
from ktrdr.marketdata.bars import Floats
from ktrdr.strategies.grid import Combination

MIN_TEST_BARS: Final = 2


@dataclass(frozen=True, slots=True)
class Fold:
    """One step of the walk: bars ``train_start`` to ``test_start`` choose, the rest are traded.

    All are indices into the bars; ``test_end`` is one past the last.
    """

    number: int
    train_start: int
    test_start: int
    test_end: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The parameters chosen for a fold, and their annualised Sharpe ratio in its training bars."""

    parameters: Combination
    sharpe: float


def plan_folds(bars: int, *, folds: int, train_bars: int) -> list[Fold]:
    """Cuts the bars after the first ``train_bars`` into ``folds`` parts of nearly equal length.

    Raises:
        InvalidParameters: There are too few bars.
    """
    needed = train_bars + folds * MIN_TEST_BARS
    if bars < needed:
        raise InvalidParameters(
            f"{bars} bars are too few for {folds} folds after {train_bars} training bars",
            hint=f"That needs {needed}: take fewer folds, a smaller train_bars, or more data.",
        )
    edges = np.linspace(train_bars, bars, folds + 1).round().astype(int).tolist()
    return [
        Fold(number, start - train_bars, start, end)
        for number, (start, end) in enumerate(pairwise(edges), start=1)
    ]


def net_returns(closes: Floats, targets: Positions, cost: float) -> Floats:
    """Returns bar by bar of holding ``targets``, less ``cost`` for every unit of change.

    Entry t is earned from close t-1 to close t by what was held at t-1; a change at close t is paid
    at t. The first entry has no bar before it and is its cost alone. Shares below 1 are taken as
    if they were restored at every close, which is near enough to choose by.
    """
    changes = np.abs(np.diff(targets, prepend=0.0))
    earned = np.concatenate(([0.0], targets[:-1] * (closes[1:] / closes[:-1] - 1)))
    return earned - changes * cost


def sharpe_of(returns: Floats, bars_a_year: float) -> float:
    """Mean over standard deviation, annualised; 0 when nothing varies."""
    deviation = float(np.std(returns, ddof=1))
    return float(np.mean(returns)) / deviation * float(np.sqrt(bars_a_year)) if deviation else 0.0


def choose(
    closes: Floats,
    fold: Fold,
    combinations: Sequence[Combination],
    decisions: Decisions,
    *,
    cost: float,
    bars_a_year: float,
) -> Choice:
    """The parameters with the best Sharpe ratio in the fold's training bars; the first of equals.

    Of the targets, which know no later bar than they are for, those before ``test_start`` count.
    """
    best: Choice | None = None
    seen = slice(fold.train_start, fold.test_start)
    for combination in combinations:
        returns = net_returns(closes[seen], decisions.targets(combination)[seen], cost)
        candidate = Choice(combination, sharpe_of(returns, bars_a_year))
        if best is None or candidate.sharpe > best.sharpe:
            best = candidate
    assert best is not None  # noqa: S101  # a grid without a combination was refused before
    return best


def traded_targets(
    folds: Sequence[Fold], choices: Sequence[Choice], decisions: Decisions
) -> Positions:
    """What is held at each close from the first test bar on, every fold by its own choice.

    A fold begins with what its parameters would be holding by then, had they been used all along.
    """
    parts = [
        decisions.targets(choice.parameters)[fold.test_start : fold.test_end]
        for fold, choice in zip(folds, choices, strict=True)
    ]
    return np.concatenate(parts)
