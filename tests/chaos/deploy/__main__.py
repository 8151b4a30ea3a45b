"""Command line of `make chaos-deploy`: deploy with injected faults, and print the results."""

from __future__ import annotations

import argparse
import itertools
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.chaos.deploy import results
from tests.chaos.deploy.case_run import CaseResult
from tests.chaos.deploy.cases import Case, schedule
from tests.chaos.deploy.runner import prepared_lab, run_cases
from tests.chaos.report import show_by_fault


def print_results(all_results: Sequence[CaseResult], console: Console) -> None:
    """Print the table of results, and all problems."""
    problems = [
        f"{result.case.number}: {problem}" for result in all_results for problem in result.problems
    ]
    show_by_fault(console, results.COLUMNS, results.result_table(all_results), problems)


def _selected_cases(options: argparse.Namespace) -> list[Case]:
    cases = itertools.islice(schedule(options.seed), max(options.runs, options.case or 0))
    if options.case:
        return [case for case in cases if case.number == options.case]
    return [case for case in cases if options.only in case.fault and case.number >= options.begin]


def main() -> int:
    """Run the selected cases; return 0 if there was no problem."""
    parser = argparse.ArgumentParser(prog="chaos-deploy", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--runs", type=int, default=200, help="number of cases of the schedule")
    parser.add_argument("--case", type=int, help="run only this case")
    parser.add_argument("--begin", type=int, default=1, help="first case to run")
    parser.add_argument("--only", default="", help="run only faults whose name contains this")
    parser.add_argument(
        "--results", type=Path, help="file that collects the results of several runs"
    )
    parser.add_argument("--as-is", action="store_true", help="do not start or repair the lab")
    options = parser.parse_args()
    console, start = Console(highlight=False, width=160), time.monotonic()
    cases = _selected_cases(options)
    console.print(f"seed {options.seed}, {len(cases)} cases")
    if options.results and not options.case:
        earlier = results.read_results(options.results)
        done = {(result.case.seed, result.case.number) for result in earlier}
        cases = [case for case in cases if (case.seed, case.number) not in done]
    with prepared_lab(start_lab=not options.as_is) as env:
        console.print(f"the lab is ready after {time.monotonic() - start:.0f} s")
        new_results = run_cases(
            cases,
            env,
            print_line=lambda text: console.print(text, soft_wrap=True, markup=False),
            results_file=options.results,
        )
    # The file also has earlier results. Of a case that ran again, the latest result counts.
    all_results = results.read_results(options.results) if options.results else new_results
    print_results(all_results, console)
    failed = [result for result in all_results if result.problems]
    late = sum(not result.injected for result in all_results)
    console.print(
        f"{len(all_results)} deploys in {time.monotonic() - start:.0f} s; "
        f"{late} of them ended before the fault"
    )
    for result in failed:
        console.print(f"repeat: make chaos-deploy SEED={options.seed} CASE={result.case.number}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
