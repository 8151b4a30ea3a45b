"""Results of a backtest, their summary, and their data files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ktrdr.backtesting.engine import Simulation
from ktrdr.backtesting.statistics import Statistics
from ktrdr.backtesting.walkforward import Fold, ParameterChoice
from ktrdr.marketdata.bars import Bars
from ktrdr.schemas import BacktestParameters
from ktrdr.strategies.document import Strategy, TradingCosts
from ktrdr.strategies.grid import Combination

_TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class BacktestResult:
    """Result of a backtest.

    Attributes:
        costs: Costs that were paid: those of the request or else of the strategy.
        models: Hashes of the stored models that were used, by name.
        start: Index of the first traded bar.
        simulation: Portfolio of the strategy.
        benchmark: Portfolio that buys at the first traded bar and never sells, with equal costs.
    """

    bars: Bars
    parameters: BacktestParameters
    strategy: Strategy
    costs: TradingCosts
    models: dict[str, str]
    combinations: Sequence[Combination]
    folds: Sequence[Fold]
    choices: Sequence[ParameterChoice]
    start: int
    simulation: Simulation
    benchmark: Simulation
    statistics: Statistics
    benchmark_statistics: Statistics


def summarise_result(result: BacktestResult) -> dict[str, Any]:
    """Return the statistics of strategy and benchmark, and the provenance."""
    bars, benchmark = result.bars, result.benchmark_statistics
    return {
        **result.statistics.to_summary(),
        "benchmark_return": benchmark.total_return,
        "benchmark_cagr": benchmark.cagr,
        "benchmark_sharpe": benchmark.sharpe,
        "benchmark_sortino": benchmark.sortino,
        "benchmark_max_drawdown": benchmark.max_drawdown,
        "bars": len(bars),
        "traded_from": f"{bars.times[result.start]:%Y-%m-%d}",
        "traded_to": f"{bars.times[-1]:%Y-%m-%d}",
        "data_hash": bars.data_hash,
        "strategy": result.strategy.name,
        "strategy_hash": result.strategy.content_hash,
    }


def format_combination(combination: Combination) -> str:
    """Return a combination as text such as ``fast 10, slow 50``."""
    return ", ".join(f"{name} {value:g}" for name, value in combination.items()) or "none"


def write_data_files(result: BacktestResult, directory: Path) -> None:
    """Write ``equity.csv``, ``trades.csv`` and ``summary.json``, in full precision and UTC."""
    simulation = result.simulation
    times = [time.strftime(_TIME_FORMAT) for time in result.bars.times[result.start :]]
    write_csv(
        directory / "equity.csv",
        ("timestamp", "close", "target", "equity", "costs", "buy_and_hold"),
        zip(
            times,
            result.bars.close[result.start :].tolist(),
            simulation.weights.tolist(),
            simulation.equity.tolist(),
            simulation.costs.tolist(),
            result.benchmark.equity.tolist(),
            strict=True,
        ),
    )
    write_csv(
        directory / "trades.csv",
        ("bought", "sold", "entry_price", "exit_price", "quantity", "profit", "closed"),
        (
            (
                times[trade.entry_bar],
                times[trade.exit_bar],
                trade.entry_price,
                trade.exit_price,
                trade.quantity,
                trade.profit,
                trade.is_closed,
            )
            for trade in simulation.trades
        ),
    )
    summary: dict[str, Any] = {
        "parameters": result.parameters.model_dump(mode="json"),
        "summary": summarise_result(result),
        "models": result.models,
        "folds": [
            {**asdict(fold), "parameters": dict(choice.parameters), "sharpe": choice.sharpe}
            for fold, choice in zip(result.folds, result.choices, strict=True)
        ],
    }
    text = json.dumps(summary, indent=2, sort_keys=True, allow_nan=False)
    (directory / "summary.json").write_text(f"{text}\n", encoding="utf-8")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a header and rows."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
