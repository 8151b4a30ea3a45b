"""Runs a backtest for a worker: choose fold by fold, trade, describe, write files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ktrdr.backtesting.engine import Simulation, simulate
from ktrdr.backtesting.report import write_report
from ktrdr.backtesting.statistics import Statistics, describe
from ktrdr.backtesting.walkforward import (
    Choice,
    Fold,
    choose,
    plan_folds,
    traded_targets,
    window_pairs,
)
from ktrdr.contracts import BacktestParameters
from ktrdr.marketdata.bars import Bars, read_bars
from ktrdr.work import WorkContext, WorkResult


@dataclass(frozen=True)
class Outcome:
    """A finished backtest.

    Attributes:
        start: The index of the first traded bar.
        held: Buying at that bar and never selling, with the same costs, for comparison.
    """

    bars: Bars
    parameters: BacktestParameters
    folds: Sequence[Fold]
    choices: Sequence[Choice]
    start: int
    simulation: Simulation
    held: Simulation
    statistics: Statistics
    benchmark_statistics: Statistics


def run(parameters: BacktestParameters, context: WorkContext) -> WorkResult:
    """Backtests as ``parameters`` say, and writes the report and its data to ``context.output``.

    The summary holds the figures of `ktrdr.backtesting.statistics`, the data's hash and dates, and
    ``benchmark_return``, that of buying and holding.

    Raises:
        InvalidParameters: There is no such data, or too little of it.
    """
    bars = read_bars(
        context.shared / "data",
        parameters.symbol,
        parameters.timeframe,
        parameters.start,
        parameters.end,
    )
    folds = plan_folds(len(bars), folds=parameters.folds, train_bars=parameters.train_bars)
    choices = _choose_all(bars, folds, parameters, context)
    context.progress(0.9, "trading")
    outcome = _trade(bars, folds, choices, parameters)
    _write_files(outcome, context.output)
    write_report(outcome, context.output / "report.html")
    return WorkResult(summary=_summary(outcome))


def cost_of(parameters: BacktestParameters) -> float:
    """Commission and slippage together, as a fraction of the traded value."""
    return parameters.commission + parameters.slippage


def _choose_all(
    bars: Bars, folds: Sequence[Fold], parameters: BacktestParameters, context: WorkContext
) -> list[Choice]:
    pairs = window_pairs(parameters.fast_windows, parameters.slow_windows)
    choices: list[Choice] = []
    resumed = context.resume_from
    # Choices made on other data than there is now are worth nothing.
    if resumed is not None and resumed.state["data_hash"] == bars.data_hash:
        choices = [Choice(**choice) for choice in resumed.state["choices"]]
    for fold in folds[len(choices) :]:
        choice = choose(
            bars.close, fold, pairs, cost=cost_of(parameters), bars_a_year=bars.bars_a_year
        )
        choices.append(choice)
        context.progress(0.9 * len(choices) / len(folds), f"fold {fold.number} of {len(folds)}")
        state = {"data_hash": bars.data_hash, "choices": [asdict(each) for each in choices]}
        context.checkpoint(len(choices), state)
    return choices


def _trade(
    bars: Bars, folds: Sequence[Fold], choices: Sequence[Choice], parameters: BacktestParameters
) -> Outcome:
    start, capital, cost = folds[0].test_start, parameters.initial_capital, cost_of(parameters)
    closes, times = bars.close[start:], bars.times[start:]
    targets = traded_targets(bars.close, folds, choices)
    simulation = simulate(times, closes, targets, capital=capital, cost=cost)
    held = simulate(times, closes, 0 * targets + 1, capital=capital, cost=cost)
    return Outcome(
        bars=bars,
        parameters=parameters,
        folds=folds,
        choices=choices,
        start=start,
        simulation=simulation,
        held=held,
        statistics=describe(simulation, capital=capital, bars_a_year=bars.bars_a_year),
        benchmark_statistics=describe(held, capital=capital, bars_a_year=bars.bars_a_year),
    )


def _summary(outcome: Outcome) -> dict[str, Any]:
    bars = outcome.bars
    return {
        **outcome.statistics.to_summary(),
        "benchmark_return": outcome.benchmark_statistics.total_return,
        "bars": len(bars),
        "traded_from": f"{bars.times[outcome.start]:%Y-%m-%d}",
        "traded_to": f"{bars.times[-1]:%Y-%m-%d}",
        "data_hash": bars.data_hash,
    }


def _write_files(outcome: Outcome, output: Path) -> None:
    """The data behind the report; numbers in full precision, times in UTC."""
    times, simulation = outcome.bars.times[outcome.start :], outcome.simulation
    _write_csv(
        output / "equity.csv",
        ("timestamp", "close", "target", "equity", "costs", "buy_and_hold"),
        zip(
            (time.strftime("%Y-%m-%dT%H:%M:%SZ") for time in times),
            outcome.bars.close[outcome.start :].tolist(),
            simulation.targets.tolist(),
            simulation.equity.tolist(),
            simulation.costs.tolist(),
            outcome.held.equity.tolist(),
            strict=True,
        ),
    )
    _write_csv(
        output / "trades.csv",
        ("bought", "sold", "entry_price", "exit_price", "quantity", "profit", "closed"),
        (
            (
                f"{times[trade.entry]:%Y-%m-%dT%H:%M:%SZ}",
                f"{times[trade.exit]:%Y-%m-%dT%H:%M:%SZ}",
                trade.entry_price,
                trade.exit_price,
                trade.quantity,
                trade.profit,
                trade.closed,
            )
            for trade in simulation.trades
        ),
    )
    summary = {
        "parameters": outcome.parameters.model_dump(mode="json"),
        "summary": _summary(outcome),
        "folds": [
            {**asdict(fold), **asdict(choice)}
            for fold, choice in zip(outcome.folds, outcome.choices, strict=True)
        ],
    }
    text = json.dumps(summary, indent=2, sort_keys=True, allow_nan=False)
    (output / "summary.json").write_text(f"{text}\n", encoding="utf-8")


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
