"""`make chaos-deploy`: deploys in the lab while something breaks; a table of what came of it."""

from __future__ import annotations

import argparse
import itertools
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.chaos.deploy import account
from tests.chaos.deploy.cases import Case, schedule
from tests.chaos.deploy.ground import ground, run
from tests.chaos.deploy.play import Ended
from tests.chaos.report import show_by_fault


def show(ended: Sequence[Ended], console: Console) -> None:
    """Prints the table, and whatever must not be."""
    problems = [f"{each.case.number}: {problem}" for each in ended for problem in each.problems]
    show_by_fault(console, account.COLUMNS, account.table(ended), problems)


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, markup=False)


def _chosen(asked: argparse.Namespace) -> list[Case]:
    cases = itertools.islice(schedule(asked.seed), max(asked.runs, asked.case or 0))
    if asked.case:
        return [case for case in cases if case.number == asked.case]
    return [case for case in cases if asked.only in case.fault and case.number >= asked.begin]


def main() -> int:
    """Plays the cases; the exit code is 0 when every one ended as it must."""
    parser = argparse.ArgumentParser(prog="chaos-deploy", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--runs", type=int, default=200, help="so many cases of the schedule")
    parser.add_argument("--case", type=int, help="this case alone")
    parser.add_argument("--begin", type=int, default=1, help="from this case on")
    parser.add_argument("--only", default="", help="faults with this in their names alone")
    parser.add_argument("--results", type=Path, help="a file that runs of parts are gathered in")
    parser.add_argument("--as-is", action="store_true", help="do not raise or repair the lab")
    asked = parser.parse_args()
    console, began = Console(highlight=False, width=160), time.monotonic()
    cases = _chosen(asked)
    console.print(f"seed {asked.seed}, {len(cases)} cases")
    ended = account.read(asked.results) if asked.results else []
    if not asked.case:
        done = {(each.case.seed, each.case.number) for each in ended}
        cases = [case for case in cases if (case.seed, case.number) not in done]
    with ground(raise_lab=not asked.as_is) as found:
        console.print(f"{time.monotonic() - began:.0f} s until the lab stood ready")
        # What was played before is read again: of a case that is played anew the last time counts.
        played = run(cases, found, say=lambda text: _say(console, text), into=asked.results)
    ended = account.read(asked.results) if asked.results else played
    show(ended, console)
    bad = [each for each in ended if each.problems]
    late = sum(not each.struck for each in ended)
    console.print(
        f"{len(ended)} deploys in {time.monotonic() - began:.0f} s; in {late} of them the fault "
        "came after the end"
    )
    for each in bad:
        console.print(f"again with: make chaos-deploy SEED={asked.seed} CASE={each.case.number}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
