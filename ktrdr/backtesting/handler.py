"""Handler of backtests: choose parameters, trade, compute statistics, write files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ktrdr.backtesting.checkpoints import checkpoint_state, choices_from_checkpoint
from ktrdr.backtesting.engine import simulate_portfolio
from ktrdr.backtesting.indicator_cache import IndicatorCache
from ktrdr.backtesting.models import load_models, require_out_of_sample
from ktrdr.backtesting.report import write_report
from ktrdr.backtesting.results import BacktestResult, summarise_result, write_data_files
from ktrdr.backtesting.statistics import compute_statistics
from ktrdr.backtesting.target_weights import TargetWeights
from ktrdr.backtesting.walkforward import (
    Fold,
    ParameterChoice,
    choose_parameters,
    out_of_sample_weights,
    plan_folds,
)
from ktrdr.build_info import code_version, library_versions
from ktrdr.marketdata.bars import Bars, read_bars
from ktrdr.schemas import BacktestParameters
from ktrdr.strategies.catalogue import load_strategy
from ktrdr.strategies.document import Strategy, TradingCosts
from ktrdr.strategies.grid import Combination, list_combinations
from ktrdr.work import WorkContext, WorkResult

LIBRARIES: Final = ("bt", "numpy", "pandas")


@dataclass(frozen=True)
class _Backtest:
    """A backtest with validated inputs."""

    parameters: BacktestParameters
    bars: Bars
    strategy: Strategy
    costs: TradingCosts
    models: dict[str, str]
    combinations: Sequence[Combination]
    folds: Sequence[Fold]
    target_weights: TargetWeights

    @property
    def cost_rate(self) -> float:
        """Commission and slippage together, as a fraction of the traded value."""
        return self.costs.commission + self.costs.slippage

    @property
    def made_from(self) -> dict[str, Any]:
        """All inputs of the choices besides the parameters."""
        return {
            "data": self.bars.data_hash,
            "strategy": self.strategy.content_hash,
            "models": self.models,
            "code": code_version(),
            "libraries": library_versions(LIBRARIES),
        }


def run(parameters: BacktestParameters, context: WorkContext) -> WorkResult:
    """Run a backtest, and write its report and data to ``context.output``.

    Raises:
        InvalidParameters: Data, strategy or a model does not exist, or they do not fit together.
    """
    backtest = _prepare(parameters, context)
    choices = _choose_for_all_folds(backtest, context)
    context.progress(0.9, "trading")
    result = _trade(backtest, choices)
    write_data_files(result, context.output)
    write_report(result, context.output / "report.html")
    return WorkResult(summary=summarise_result(result))


def trading_costs(parameters: BacktestParameters, strategy: Strategy) -> TradingCosts:
    """Return the costs of the request or, where it has none, of the strategy."""
    return TradingCosts(
        strategy.costs.commission if parameters.commission is None else parameters.commission,
        strategy.costs.slippage if parameters.slippage is None else parameters.slippage,
    )


def _prepare(parameters: BacktestParameters, context: WorkContext) -> _Backtest:
    strategy = load_strategy(parameters.strategy, context.shared / "strategies")
    combinations = list_combinations(strategy, parameters.strategy_parameters)
    bars = read_bars(
        context.shared / "data",
        parameters.symbol,
        parameters.timeframe,
        parameters.start,
        parameters.end,
    )
    folds = plan_folds(len(bars), folds=parameters.folds, train_bars=parameters.train_bars)
    models = load_models(strategy, context.shared / "models")
    require_out_of_sample(models, bars, folds[0].test_start)
    return _Backtest(
        parameters=parameters,
        bars=bars,
        strategy=strategy,
        costs=trading_costs(parameters, strategy),
        models={name: model.sha256 for name, model in models.items()},
        combinations=combinations,
        folds=folds,
        target_weights=TargetWeights(strategy, IndicatorCache(bars, models)),
    )


def _choose_for_all_folds(backtest: _Backtest, context: WorkContext) -> list[ParameterChoice]:
    folds, made_from = backtest.folds, backtest.made_from
    choices = choices_from_checkpoint(context.resume_from, made_from, folds, backtest.combinations)
    for fold in folds[len(choices) :]:
        choice = choose_parameters(
            backtest.bars.close,
            fold,
            backtest.combinations,
            backtest.target_weights,
            cost_rate=backtest.cost_rate,
            bars_per_year=backtest.bars.bars_per_year,
        )
        choices.append(choice)
        context.progress(0.9 * len(choices) / len(folds), f"fold {fold.number} of {len(folds)}")
        context.checkpoint(len(choices), checkpoint_state(choices, made_from))
    return choices


def _trade(backtest: _Backtest, choices: Sequence[ParameterChoice]) -> BacktestResult:
    bars, start = backtest.bars, backtest.folds[0].test_start
    capital, cost_rate = backtest.parameters.initial_capital, backtest.cost_rate
    times, closes = bars.times[start:], bars.close[start:]
    weights = out_of_sample_weights(backtest.folds, choices, backtest.target_weights)
    simulation, benchmark = (
        simulate_portfolio(times, closes, held, capital=capital, cost_rate=cost_rate)
        for held in (weights, 0 * weights + 1)
    )
    statistics, benchmark_statistics = (
        compute_statistics(account, capital=capital, bars_per_year=bars.bars_per_year)
        for account in (simulation, benchmark)
    )
    return BacktestResult(
        bars=bars,
        parameters=backtest.parameters,
        strategy=backtest.strategy,
        costs=backtest.costs,
        models=backtest.models,
        combinations=backtest.combinations,
        folds=backtest.folds,
        choices=choices,
        start=start,
        simulation=simulation,
        benchmark=benchmark,
        statistics=statistics,
        benchmark_statistics=benchmark_statistics,
    )
