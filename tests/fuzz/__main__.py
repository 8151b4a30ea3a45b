"""`make fuzz-api`: many requests made from the API's documentation, and what came of them."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.fuzz.run import Account, run
from tests.fuzz.stage import set_up
from tests.integration.postgres import running_server
from tests.integration.processes import site


def show(account: Account, console: Console) -> None:
    """Prints what was asked of each route and answered, and whatever was not as documented."""
    table = Table(box=None, header_style="bold")
    table.add_column("route", overflow="fold")
    table.add_column("requests", justify="right")
    table.add_column("answers")
    for route, requests, answers in account.table():
        table.add_row(route, str(requests), answers)
    console.print(table)
    for about, problem in account.problems.items():
        console.print(f"[red]{about}[/]", problem, sep="\n", markup=True)
    console.print(
        f"{account.requests} requests in {account.seconds:.0f} s, "
        f"{account.server_errors} server errors, {len(account.problems)} answers unlike documented"
    )


def main() -> int:
    """Makes the requests of one seed; the exit code is 0 when all answers were as documented."""
    parser = argparse.ArgumentParser(prog="fuzz-api", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--requests", type=int, default=5000)
    asked = parser.parse_args()
    console = Console(highlight=False)
    console.print(f"seed {asked.seed}, at least {asked.requests} requests")
    with (
        tempfile.TemporaryDirectory(prefix="ktrdr-fuzz-") as directory,
        running_server() as server,
        server.database() as settings,
        site(settings, Path(directory)) as place,
    ):
        account = run(set_up(place), asked.requests, asked.seed)
    show(account, console)
    return 1 if account.problems or account.server_errors else 0


if __name__ == "__main__":
    sys.exit(main())
