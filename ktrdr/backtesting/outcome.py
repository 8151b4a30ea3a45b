"""A finished backtest, and what a summary says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ktrdr.backtesting.engine import Simulation
from ktrdr.backtesting.statistics import Statistics
from ktrdr.backtesting.walkforward import Choice, Fold
from ktrdr.marketdata.bars import Bars
from ktrdr.schemas import BacktestParameters
from ktrdr.strategies.document import Strategy, TradingCosts
from ktrdr.strategies.grid import Combination


@dataclass(frozen=True)
class Outcome:
    """A finished backtest.

    Attributes:
        costs: Those that were paid: the strategy's, or what the parameters said instead.
        models: The hash of every stored model that was asked, by its name.
        start: The index of the first traded bar.
        held: Buying at that bar and never selling, with the same costs, for comparison.
    """

    bars: Bars
    parameters: BacktestParameters
    strategy: Strategy
    costs: TradingCosts
    models: dict[str, str]
    combinations: Sequence[Combination]
    folds: Sequence[Fold]
    choices: Sequence[Choice]
    start: int
    simulation: Simulation
    held: Simulation
    statistics: Statistics
    benchmark_statistics: Statistics


def summary_of(outcome: Outcome) -> dict[str, Any]:
    """The figures of `ktrdr.backtesting.statistics`, those of holding, what it was made from."""
    bars, held = outcome.bars, outcome.benchmark_statistics
    return {
        **outcome.statistics.to_summary(),
        "benchmark_return": held.total_return,
        "benchmark_cagr": held.cagr,
        "benchmark_sharpe": held.sharpe,
        "benchmark_sortino": held.sortino,
        "benchmark_max_drawdown": held.max_drawdown,
        "bars": len(bars),
        "traded_from": f"{bars.times[outcome.start]:%Y-%m-%d}",
        "traded_to": f"{bars.times[-1]:%Y-%m-%d}",
        "data_hash": bars.data_hash,
        "strategy": outcome.strategy.name,
        "strategy_hash": outcome.strategy.content_hash,
    }


def shown(combination: Combination) -> str:
    """A combination in words, such as ``fast 10, slow 50``."""
    return ", ".join(f"{name} {value:g}" for name, value in combination.items()) or "none"
