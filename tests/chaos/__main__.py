"""`make chaos`: many operations, something always breaking, and a table of what came of it."""

from __future__ import annotations

import argparse
import secrets
import sys

from rich.console import Console

from tests.chaos.account import Account
from tests.chaos.report import show_by_fault
from tests.chaos.run import run


def show(account: Account, console: Console) -> None:
    """Prints the table, and whatever must not be."""
    show_by_fault(
        console,
        ("injected", "operations hit", "recovered", "lost"),
        account.table(),
        account.problems,
        text_at_end="began again: n, median, longest",
    )
    console.print(
        f"{account.completed.total()} operations completed in {account.seconds:.0f} s "
        f"({', '.join(f'{number} {kind}' for kind, number in sorted(account.completed.items()))}); "
        f"{account.given_up} had been hit so often that they were given up, and were resumed"
    )


def main() -> int:
    """Runs one schedule; the exit code is 0 when nothing was lost."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--operations", type=int, default=200)
    asked = parser.parse_args()
    console = Console(highlight=False)
    console.print(f"seed {asked.seed}, {asked.operations} operations")
    account = run(asked.seed, asked.operations, say=console.print)
    show(account, console)
    if account.problems:
        console.print(
            f"again with: .venv/bin/python -m tests.chaos --seed {asked.seed} "
            f"--operations {asked.operations}"
        )
    return 1 if account.problems else 0


if __name__ == "__main__":
    sys.exit(main())
