"""`make bench-runtime`: every measurement, then a table of goals; exit code 1 if one is missed."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.runtime import fleet, latency, responsiveness, scaling, table, throughput
from benchmarks.runtime.ground import Ground, prepared_ground
from benchmarks.runtime.samples import Goal, Outcome

# In full, and small enough to see in a minute or two that everything runs.
MEASUREMENTS: dict[str, Callable[[Ground, bool], Outcome]] = {
    "latency": lambda ground, quick: latency.submit_to_start(ground, 10 if quick else 300),
    "start-up": lambda ground, quick: latency.submit_to_work(ground, 1 if quick else 15),
    "throughput": lambda ground, quick: throughput.through_the_engine(
        ground, *((20, 1) if quick else (500, 3))
    ),
    "backtests": lambda ground, quick: scaling.of_backtests(ground, *((2, 1) if quick else (8, 2))),
    "sweep": lambda ground, quick: scaling.of_a_sweep(ground, *((2, 1) if quick else (16, 2))),
    "fleet": lambda ground, quick: fleet.a_growing_fleet(
        ground, *(((3, 10), 1) if quick else ((10, 30, 100, 300, 1000), 30))
    ),
    "table": lambda ground, quick: table.full_and_empty(
        ground, *((1000, 5) if quick else (100_000, 200))
    ),
    "responsiveness": lambda ground, quick: responsiveness.health_while_busy(
        ground, 10 if quick else 500
    ),
}


def main() -> int:
    """Measures what was asked for; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="bench-runtime", description=__doc__)
    parser.add_argument("--only", choices=MEASUREMENTS, action="append", help="may be repeated")
    parser.add_argument("--quick", action="store_true", help="tiny samples: it runs, no more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    asked = parser.parse_args()
    console = Console(highlight=False)
    console.print(machine())
    outcomes = {}
    with prepared_ground() as ground:
        for name in asked.only or MEASUREMENTS:
            began = time.monotonic()
            outcomes[name] = MEASUREMENTS[name](ground, asked.quick)
            show(outcomes[name], console, time.monotonic() - began)
    goals = [goal for outcome in outcomes.values() for goal in outcome.goals]
    show_goals(goals, console)
    if asked.json:
        asked.json.write_text(to_json(outcomes))
    return int(not all(goal.met for goal in goals))


def machine() -> str:
    """What the figures are of."""
    load = ", ".join(f"{figure:.1f}" for figure in os.getloadavg())
    return (
        f"{os.cpu_count()} processors, {platform.machine()}, Python {platform.python_version()}, "
        f"load at the start {load}"
    )


def show(outcome: Outcome, console: Console, seconds: float) -> None:
    """Prints one measurement."""
    console.print(f"\n[bold]{outcome.title}[/] ({seconds:.0f} s)")
    shown = Table(box=None, header_style="dim")
    for number, title in enumerate(outcome.columns):
        shown.add_column(title, justify="right" if number else "left")
    for row in outcome.rows:
        shown.add_row(*row)
    console.print(shown)
    for note in outcome.notes:
        console.print(f"  {note}", style="dim")


def show_goals(goals: list[Goal], console: Console) -> None:
    """Prints what was promised, and whether it is so."""
    shown = Table(box=None, header_style="bold")
    shown.add_column("goal")
    for title in ("limit", "measured", "met"):
        shown.add_column(title, justify="right")
    for goal in goals:
        limit = f"{'>=' if goal.at_least else '<='} {goal.limit:g} {goal.unit}"
        met = "[green]yes[/]" if goal.met else "[red]no[/]"
        shown.add_row(goal.what, limit, f"{goal.measured:.2f}", met)
    console.print()
    console.print(shown)


def to_json(outcomes: dict[str, Outcome]) -> str:
    """Everything that was found, for programs."""
    measured = {
        name: {
            **asdict(outcome),
            "goals": [{**asdict(goal), "met": goal.met} for goal in outcome.goals],
        }
        for name, outcome in outcomes.items()
    }
    return json.dumps({"machine": machine(), "measurements": measured}, indent=2)


if __name__ == "__main__":
    sys.exit(main())
