"""Collects the backtests of a sweep into one report, for a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ktrdr.backtesting.outcome import shown
from ktrdr.backtesting.result_files import write_csv
from ktrdr.backtesting.sweep_report import write_report
from ktrdr.backtesting.tries import Tries, tries_of
from ktrdr.errors import OperationFailed
from ktrdr.schemas import SweepParameters
from ktrdr.work import WorkContext, WorkResult

# What the table has of each backtest; they are figures of its summary.
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
    """Compares the sweep's backtests; writes ``report.html`` and ``results.csv``.

    Those that did not complete are listed with their reason.

    Raises:
        OperationFailed: None of them completed.
    """
    tries = tries_of(parameters, context.children)
    if not tries.completed:
        raise OperationFailed(
            f"none of the sweep's {len(tries.every)} backtests completed{_first_reason(tries)}",
            hint="Correct the cause, and submit the sweep again.",
        )
    context.progress(0.5, f"comparing {len(tries.completed)} backtests")
    _write_results(tries, context.output / "results.csv")
    write_report(tries, context.output / "report.html")
    return WorkResult(summary=summary_of(tries))


def summary_of(tries: Tries) -> dict[str, Any]:
    """The best combination, and what to hold against it.

    ``expected_best_of_luck`` is a Sharpe ratio, whatever the metric is; so is ``best_sharpe``.
    """
    best = tries.ranked()[0]
    return {
        "metric": tries.parameters.metric,
        "best": tries.metric_of(best),
        "best_parameters": shown(best.values),
        "best_operation": best.operation_id,
        "best_sharpe": best.figure("sharpe"),
        "expected_best_of_luck": tries.luck(),
        "benchmark": tries.benchmark(),
        "parts": len(tries.every),
        "completed": len(tries.completed),
        "failed": len(tries.failed),
        "data_hash": best.summary.get("data_hash"),
        "strategy": best.summary.get("strategy"),
        "strategy_hash": best.summary.get("strategy_hash"),
    }


def _write_results(tries: Tries, path: Path) -> None:
    names = tries.names()
    write_csv(
        path,
        ("operation", *names, *COLUMNS, "error"),
        (
            (
                each.operation_id,
                *(each.values[name] for name in names),
                *(each.summary.get(column) for column in COLUMNS),
                each.error,
            )
            for each in tries.every
        ),
    )


def _first_reason(tries: Tries) -> str:
    return f"; the first says: {tries.every[0].error}" if tries.every else ""
