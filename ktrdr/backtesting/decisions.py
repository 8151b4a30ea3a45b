"""What a strategy wants to hold: rules and sizing made into a share of capital at each close."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ktrdr.backtesting.engine import Positions
from ktrdr.backtesting.figures import Figures
from ktrdr.backtesting.sizing import band, weights
from ktrdr.indicators.rolling import before
from ktrdr.strategies.document import Strategy
from ktrdr.strategies.grid import Combination
from ktrdr.strategies.rule_parser import PRICES
from ktrdr.strategies.rules import Condition, evaluate_condition

Truths = NDArray[np.bool_]
_NOTHING: Final = 0.0


class Decisions:
    """The targets of a strategy for any of its parameters, each computed once.

    They are kept as their changes, of which there are few: a thousand combinations on a million
    bars would fit into no memory otherwise.
    """

    def __init__(self, strategy: Strategy, figures: Figures) -> None:
        self._strategy = strategy
        self._figures = figures
        self._kept: dict[tuple[object, ...], tuple[NDArray[np.int64], Positions]] = {}

    def targets(self, combination: Combination) -> Positions:
        """The share of capital to hold at each close.

        What is decided at close t is held from close t+1 on: an order that is given after one close
        is executed at the next. So entry t depends on bars up to t-1 alone.
        """
        key = tuple(combination.values())
        if key not in self._kept:
            targets = self._computed(combination)
            starts = np.flatnonzero(np.diff(targets, prepend=np.nan) != 0)
            self._kept[key] = (starts, targets[starts])
        starts, values = self._kept[key]
        return np.repeat(values, np.diff(starts, append=len(self._figures.bars)))

    def _computed(self, combination: Combination) -> Positions:
        strategy, bars = self._strategy, self._figures.bars
        values: dict[str, Any] = {name: getattr(bars, name) for name in PRICES}
        values |= {name: float(value) for name, value in combination.items()}
        for name, template in strategy.indicators.items():
            values[name] = self._figures.of(template.with_values(combination))
        sizing = strategy.sizing.with_values(combination)
        decided = decide(
            _truths(strategy.entry, values, len(bars)).tolist(),
            _truths(strategy.exit, values, len(bars)).tolist(),
            weights(sizing, self._figures).tolist(),
            band(sizing),
        )
        return np.concatenate(([_NOTHING], decided[:-1]))


def decide(
    entries: Iterable[bool], exits: Iterable[bool], wanted: Iterable[float], band: float
) -> Positions:
    """The share of capital that is wanted after each close.

    A position is entered where none is held and the entry rule is true, and left where one is held
    and the exit rule is true, of which a bar sees one at most. In between its share changes where
    the wanted one is farther from it than ``band``. Nothing is entered whose share is not known.
    """
    held, found = _NOTHING, []
    for enters, leaves, weight in zip(entries, exits, wanted, strict=True):
        if held:
            if leaves:
                held = _NOTHING
            elif abs(weight - held) > band:
                held = weight
        elif enters and weight > 0:
            held = weight
        found.append(held)
    return np.array(found, dtype=np.float64)


def _truths(rule: Condition, values: dict[str, Any], bars: int) -> Truths:
    with np.errstate(all="ignore"):
        truths = evaluate_condition(rule, values, _before)
    return np.broadcast_to(np.asarray(truths, dtype=np.bool_), bars)


def _before(value: Any) -> Any:
    """A figure one bar earlier; a number is what it always was."""
    return before(value) if isinstance(value, np.ndarray) else value
