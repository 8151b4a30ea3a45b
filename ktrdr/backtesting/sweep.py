"""Handler of sweeps: compare the backtests in one report."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ktrdr.backtesting.results import format_combination, write_csv
from ktrdr.backtesting.sweep_report import write_report
from ktrdr.backtesting.sweep_results import Trials
from ktrdr.errors import OperationFailed
from ktrdr.schemas import SweepParameters
from ktrdr.work import WorkContext, WorkResult

# Columns of the table of results, which are keys of a backtest's summary.
COLUMNS: Final = (
    "sharpe",
    "sortino",
    "cagr",
    "total_return",
    "volatility",
    "max_drawdown",
    "max_drawdown_bars",
    "exposure",
    "turnover",
    "trades",
    "hit_rate",
    "total_costs",
    "final_equity",
)


def run(parameters: SweepParameters, context: WorkContext) -> WorkResult:
    """Compare the sweep's backtests and write ``report.html`` and ``results.csv``.

    Failed backtests are listed with their errors.

    Raises:
        OperationFailed: No backtest completed.
    """
    trials = Trials.from_children(parameters, context.child_results)
    if not trials.completed:
        first_error = f"; the first error: {trials.trials[0].error}" if trials.trials else ""
        raise OperationFailed(
            f"none of the sweep's {len(trials.trials)} backtests completed{first_error}",
            hint="Correct the cause, and submit the sweep again.",
        )
    context.progress(0.5, f"comparing {len(trials.completed)} backtests")
    _write_results(trials, context.output / "results.csv")
    write_report(trials, context.output / "report.html")
    return WorkResult(summary=summarise_trials(trials))


def summarise_trials(trials: Trials) -> dict[str, Any]:
    """Return the best combination, with the benchmark and the expected maximum for comparison.

    ``best_sharpe`` and ``expected_best_of_luck`` are Sharpe ratios, independent of the metric.
    """
    best = trials.ranked()[0]
    return {
        "metric": trials.parameters.metric,
        "best": trials.metric_of(best),
        "best_parameters": format_combination(best.values),
        "best_operation": best.operation_id,
        "best_sharpe": best.number("sharpe"),
        "expected_best_of_luck": trials.expected_max_sharpe(),
        "benchmark": trials.benchmark_metric(),
        "parts": len(trials.trials),
        "completed": len(trials.completed),
        "failed": len(trials.failed),
        "data_hash": best.summary.get("data_hash"),
        "strategy": best.summary.get("strategy"),
        "strategy_hash": best.summary.get("strategy_hash"),
    }


def _write_results(trials: Trials, path: Path) -> None:
    names = trials.parameter_names()
    write_csv(
        path,
        ("operation", *names, *COLUMNS, "error"),
        (
            (
                trial.operation_id,
                *(trial.values[name] for name in names),
                *(trial.summary.get(column) for column in COLUMNS),
                trial.error,
            )
            for trial in trials.trials
        ),
    )
