"""The data behind a report; numbers in full precision, times in UTC."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ktrdr.backtesting.outcome import Outcome, summary_of


def write_files(outcome: Outcome, output: Path) -> None:
    """Writes ``equity.csv``, ``trades.csv`` and ``summary.json``."""
    _write_equity(outcome, output / "equity.csv")
    _write_trades(outcome, output / "trades.csv")
    summary: dict[str, Any] = {
        "parameters": outcome.parameters.model_dump(mode="json"),
        "summary": summary_of(outcome),
        "models": outcome.models,
        "folds": [
            {**asdict(fold), "parameters": dict(choice.parameters), "sharpe": choice.sharpe}
            for fold, choice in zip(outcome.folds, outcome.choices, strict=True)
        ],
    }
    text = json.dumps(summary, indent=2, sort_keys=True, allow_nan=False)
    (output / "summary.json").write_text(f"{text}\n", encoding="utf-8")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes rows under a header."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _write_equity(outcome: Outcome, path: Path) -> None:
    times, simulation = outcome.bars.times[outcome.start :], outcome.simulation
    write_csv(
        path,
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


def _write_trades(outcome: Outcome, path: Path) -> None:
    times = outcome.bars.times[outcome.start :]
    write_csv(
        path,
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
            for trade in outcome.simulation.trades
        ),
    )
