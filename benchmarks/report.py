"""Command line of the benchmarks: run measurements, print their tables and a table of goals."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from benchmarks.samples import Goal, Outcome

Ground = TypeVar("Ground")


def run(
    prog: str,
    about: str | None,
    measurements: Mapping[str, Callable[[Ground, bool], Outcome]],
    prepared: Callable[[], AbstractContextManager[Ground]],
) -> int:
    """Run the measurements selected on the command line; return 1 if a goal is missed.

    Args:
        prog: Name of the benchmark.
        about: Description for the help text.
        measurements: Measurements by name; arguments are the environment and True for tiny samples.
        prepared: Context manager that provides the environment.
    """
    parser = argparse.ArgumentParser(prog=prog, description=about)
    parser.add_argument(
        "--only",
        choices=measurements,
        action="append",
        help="run only this measurement; may be repeated",
    )
    parser.add_argument(
        "--quick", action="store_true", help="use tiny samples, only to see that it runs"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write all figures to this file"
    )
    asked = parser.parse_args()
    console = Console(highlight=False)
    console.print(machine())
    outcomes = {}
    with prepared() as ground:
        for name in asked.only or measurements:
            began = time.monotonic()
            outcomes[name] = measurements[name](ground, asked.quick)
            show(outcomes[name], console, time.monotonic() - began)
    goals = [goal for outcome in outcomes.values() for goal in outcome.goals]
    show_goals(goals, console)
    if asked.json:
        asked.json.write_text(to_json(outcomes))
    return int(not all(goal.met for goal in goals))


def machine() -> str:
    """Describe this machine."""
    load = ", ".join(f"{figure:.1f}" for figure in os.getloadavg())
    return (
        f"{os.cpu_count()} processors, {platform.machine()}, Python {platform.python_version()}, "
        f"load at the start {load}"
    )


def show(outcome: Outcome, console: Console, seconds: float) -> None:
    """Print a measurement."""
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
    """Print the table of goals."""
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
    """Return all figures as JSON."""
    measured = {
        name: {
            **asdict(outcome),
            "goals": [{**asdict(goal), "met": goal.met} for goal in outcome.goals],
        }
        for name, outcome in outcomes.items()
    }
    return json.dumps({"machine": machine(), "measurements": measured}, indent=2)
