"""Runs a backtest for a worker: choose fold by fold, trade, describe, write files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ktrdr.backtesting.checkpoints import resumed_choices, state_of
from ktrdr.backtesting.decisions import Decisions
from ktrdr.backtesting.engine import simulate
from ktrdr.backtesting.figures import Figures, read_signals
from ktrdr.backtesting.outcome import Outcome, summary_of
from ktrdr.backtesting.report import write_report
from ktrdr.backtesting.result_files import write_files
from ktrdr.backtesting.signals import refuse_what_they_learnt_from
from ktrdr.backtesting.statistics import describe
from ktrdr.backtesting.walkforward import Choice, Fold, choose, plan_folds, traded_targets
from ktrdr.build_info import code, libraries
from ktrdr.marketdata.bars import Bars, read_bars
from ktrdr.schemas import BacktestParameters
from ktrdr.strategies.catalogue import load_strategy
from ktrdr.strategies.document import Strategy, TradingCosts
from ktrdr.strategies.grid import Combination, list_combinations
from ktrdr.work import WorkContext, WorkResult

LIBRARIES: Final = ("bt", "numpy", "pandas")


@dataclass(frozen=True)
class _Task:
    """What is to be backtested, everything checked."""

    parameters: BacktestParameters
    bars: Bars
    strategy: Strategy
    costs: TradingCosts
    models: dict[str, str]
    combinations: Sequence[Combination]
    folds: Sequence[Fold]
    decisions: Decisions

    @property
    def cost(self) -> float:
        """Commission and slippage together, as a fraction of the traded value."""
        return self.costs.commission + self.costs.slippage

    @property
    def made_from(self) -> dict[str, Any]:
        """What the choices follow from, beside the parameters."""
        return {
            "data": self.bars.data_hash,
            "strategy": self.strategy.content_hash,
            "models": self.models,
            "code": code(),
            "libraries": libraries(LIBRARIES),
        }


def run(parameters: BacktestParameters, context: WorkContext) -> WorkResult:
    """Backtests as ``parameters`` say, and writes the report and its data to ``context.output``.

    Raises:
        InvalidParameters: There is no such data, strategy or model, or they do not go together.
    """
    task = _prepare(parameters, context)
    choices = _choose_all(task, context)
    context.progress(0.9, "trading")
    outcome = _trade(task, choices)
    write_files(outcome, context.output)
    write_report(outcome, context.output / "report.html")
    return WorkResult(summary=summary_of(outcome))


def costs_of(parameters: BacktestParameters, strategy: Strategy) -> TradingCosts:
    """The strategy's costs, but for what the parameters say."""
    return TradingCosts(
        strategy.costs.commission if parameters.commission is None else parameters.commission,
        strategy.costs.slippage if parameters.slippage is None else parameters.slippage,
    )


def _prepare(parameters: BacktestParameters, context: WorkContext) -> _Task:
    strategy = load_strategy(parameters.strategy, context.shared / "strategies")
    grid = list_combinations(strategy, parameters.strategy_parameters)
    bars = read_bars(
        context.shared / "data",
        parameters.symbol,
        parameters.timeframe,
        parameters.start,
        parameters.end,
    )
    folds = plan_folds(len(bars), folds=parameters.folds, train_bars=parameters.train_bars)
    signals = read_signals(strategy, context.shared / "models")
    refuse_what_they_learnt_from(signals, bars, folds[0].test_start)
    return _Task(
        parameters=parameters,
        bars=bars,
        strategy=strategy,
        costs=costs_of(parameters, strategy),
        models={name: signal.sha256 for name, signal in signals.items()},
        combinations=grid,
        folds=folds,
        decisions=Decisions(strategy, Figures(bars, signals)),
    )


def _choose_all(task: _Task, context: WorkContext) -> list[Choice]:
    folds, made_from = task.folds, task.made_from
    choices = resumed_choices(context.resume_from, made_from, folds, task.combinations)
    for fold in folds[len(choices) :]:
        choice = choose(
            task.bars.close,
            fold,
            task.combinations,
            task.decisions,
            cost=task.cost,
            bars_a_year=task.bars.bars_a_year,
        )
        choices.append(choice)
        context.progress(0.9 * len(choices) / len(folds), f"fold {fold.number} of {len(folds)}")
        context.checkpoint(len(choices), state_of(choices, made_from))
    return choices


def _trade(task: _Task, choices: Sequence[Choice]) -> Outcome:
    bars, start, capital = task.bars, task.folds[0].test_start, task.parameters.initial_capital
    closes, times = bars.close[start:], bars.times[start:]
    targets = traded_targets(task.folds, choices, task.decisions)
    simulation = simulate(times, closes, targets, capital=capital, cost=task.cost)
    held = simulate(times, closes, 0 * targets + 1, capital=capital, cost=task.cost)
    return Outcome(
        bars=bars,
        parameters=task.parameters,
        strategy=task.strategy,
        costs=task.costs,
        models=task.models,
        combinations=task.combinations,
        folds=task.folds,
        choices=choices,
        start=start,
        simulation=simulation,
        held=held,
        statistics=describe(simulation, capital=capital, bars_a_year=bars.bars_a_year),
        benchmark_statistics=describe(held, capital=capital, bars_a_year=bars.bars_a_year),
    )
