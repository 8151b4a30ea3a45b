"""`make chaos`: run operations under injected faults and print a table of the results."""

from __future__ import annotations

import argparse
import secrets
import sys

from rich.console import Console

from tests.chaos.report import show_by_fault
from tests.chaos.run import run
from tests.chaos.tally import ChaosTally


def show(tally: ChaosTally, console: Console) -> None:
    """Print the table and the problems."""
    show_by_fault(
        console,
        ("injected", "operations hit", "recovered", "lost"),
        tally.table(),
        tally.problems,
        text_at_end="claimed again: n, median, longest",
    )
    console.print(
        f"{tally.completed.total()} operations completed in {tally.seconds:.0f} s "
        f"({', '.join(f'{number} {kind}' for kind, number in sorted(tally.completed.items()))}); "
        f"{tally.given_up} failed after too many faults and were resumed"
    )


def main() -> int:
    """Run one schedule; return 0 if nothing was lost."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--operations", type=int, default=200)
    arguments = parser.parse_args()
    console = Console(highlight=False)
    console.print(f"seed {arguments.seed}, {arguments.operations} operations")
    tally = run(arguments.seed, arguments.operations, log=console.print)
    show(tally, console)
    if tally.problems:
        console.print(
            f"repeat with: .venv/bin/python -m tests.chaos --seed {arguments.seed} "
            f"--operations {arguments.operations}"
        )
    return 1 if tally.problems else 0


if __name__ == "__main__":
    sys.exit(main())
