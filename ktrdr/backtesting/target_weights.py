"""Target weights: the share of the capital to hold at each close, by rules and sizing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ktrdr.backtesting.engine import Weights
from ktrdr.backtesting.indicator_cache import IndicatorCache
from ktrdr.indicators.rolling import lag
from ktrdr.marketdata.bars import Floats
from ktrdr.strategies.document import Component, Strategy
from ktrdr.strategies.grid import Combination
from ktrdr.strategies.rule_parser import PRICES
from ktrdr.strategies.rules import Condition, evaluate_condition


class TargetWeights:
    """Target weights of a strategy, computed once for each combination of parameters.

    Only the changes of the weights are stored: a thousand combinations on a million bars would not
    fit into memory otherwise.
    """

    def __init__(self, strategy: Strategy, indicators: IndicatorCache) -> None:
        self._strategy = strategy
        self._indicators = indicators
        self._changes: dict[tuple[object, ...], tuple[NDArray[np.int64], Weights]] = {}

    def compute(self, combination: Combination) -> Weights:
        """Return the share of the capital to hold at each close.

        A decision at close t is held from close t+1 on: an order given after one close is executed
        at the next. So entry t depends on bars up to t-1 only.
        """
        key = tuple(combination.values())
        if key not in self._changes:
            weights = self._decide(combination)
            starts = np.flatnonzero(np.diff(weights, prepend=np.nan) != 0)
            self._changes[key] = (starts, weights[starts])
        starts, values = self._changes[key]
        return np.repeat(values, np.diff(starts, append=len(self._indicators.bars)))

    def _decide(self, combination: Combination) -> Weights:
        strategy, bars = self._strategy, self._indicators.bars
        values: dict[str, Any] = {name: getattr(bars, name) for name in PRICES}
        values |= {name: float(value) for name, value in combination.items()}
        for name, template in strategy.indicators.items():
            values[name] = self._indicators.values(template.with_values(combination))
        sizing = strategy.sizing.with_values(combination)
        decided = apply_rules(
            _evaluate_rule(strategy.entry, values, len(bars)),
            _evaluate_rule(strategy.exit, values, len(bars)),
            position_sizes(sizing, self._indicators).tolist(),
            rebalancing_band(sizing),
        )
        return np.concatenate(([0.0], decided[:-1]))


def apply_rules(
    entries: Iterable[bool], exits: Iterable[bool], sizes: Iterable[float], band: float
) -> Weights:
    """Return the weight to hold after each close.

    A position is entered when none is held and the entry rule is true, and left when one is held
    and the exit rule is true; a bar applies one of the two rules. In between, the weight changes
    when the desired size differs from it by more than ``band``. A position of unknown size is not
    entered.
    """
    weight, weights = 0.0, []
    for enters, leaves, size in zip(entries, exits, sizes, strict=True):
        if weight:
            if leaves:
                weight = 0.0
            elif abs(size - weight) > band:
                weight = size
        elif enters and size > 0:
            weight = size
        weights.append(weight)
    return np.array(weights, dtype=np.float64)


def position_sizes(sizing: Component, indicators: IndicatorCache) -> Floats:
    """Return the desired size of a position at each close, 0 to 1; NaN while it is unknown.

    A volatility target is annual / (v * sqrt(Y)), ``maximum`` at most, where v is the standard
    deviation of one bar's log return over ``window`` bars and Y the number of bars in a year.
    Source: A. Moreira and T. Muir, "Volatility-Managed Portfolios", Journal of Finance 72(4), 2017,
    with the deviation in place of the variance.
    """
    bars = indicators.bars
    if sizing.kind == "volatility_target":
        window = sizing.argument("window")
        volatility = indicators.values(Component("volatility", (("window", window),)))
        annual_volatility = volatility * np.sqrt(bars.bars_per_year)
        # A constant price has no volatility, and the position is as large as allowed.
        with np.errstate(divide="ignore"):
            sizes: Floats = sizing.argument("annual") / annual_volatility
        return np.minimum(sizes, float(sizing.argument("maximum")))
    fraction = sizing.argument("fraction") if sizing.kind == "fraction" else 1.0
    return np.full(len(bars), float(fraction))


def rebalancing_band(sizing: Component) -> float:
    """Return the difference between desired and held weight above which it is traded."""
    return float(sizing.argument("band")) if sizing.kind == "volatility_target" else 0.0


def _evaluate_rule(rule: Condition, values: dict[str, Any], bars: int) -> list[bool]:
    with np.errstate(all="ignore"):
        truths = evaluate_condition(rule, values, _previous_bar)
    truth_list: list[bool] = np.broadcast_to(np.asarray(truths, dtype=np.bool_), bars).tolist()
    return truth_list


def _previous_bar(value: Any) -> Any:
    """Return an array as of one bar earlier; a number is the same at all bars."""
    return lag(value) if isinstance(value, np.ndarray) else value
