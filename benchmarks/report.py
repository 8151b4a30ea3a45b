"""Runs measurements, prints what they found, then a table of goals: for every benchmark."""

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
    """Measures what was asked for on the command line; 1 when a goal is missed.

    Args:
        prog: What the benchmark is called.
        about: What it does, for its help.
        measurements: By name; each is given the ground, and whether tiny samples will do.
        prepared: Makes what they stand on.
    """
    parser = argparse.ArgumentParser(prog=prog, description=about)
    parser.add_argument("--only", choices=measurements, action="append", help="may be repeated")
    parser.add_argument("--quick", action="store_true", help="tiny samples: it runs, no more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
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
