"""`make fuzz-api`: send requests generated from the API's documentation, check the responses."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.fuzz.run import FuzzTally, run
from tests.fuzz.target import start_target
from tests.integration.postgres import running_server
from tests.integration.processes import open_runtime


def show(tally: FuzzTally, console: Console) -> None:
    """Print requests and responses by route, and the undocumented responses."""
    table = Table(box=None, header_style="bold")
    table.add_column("route", overflow="fold")
    table.add_column("requests", justify="right")
    table.add_column("responses")
    for route, requests, responses in tally.table():
        table.add_row(route, str(requests), responses)
    console.print(table)
    for about, problem in tally.problems.items():
        console.print(f"[red]{about}[/]", problem, sep="\n", markup=True)
    console.print(
        f"{tally.requests} requests in {tally.seconds:.0f} s, "
        f"{tally.server_errors} server errors, {len(tally.problems)} undocumented responses"
    )


def main() -> int:
    """Send the requests of one seed; return 0 if all responses are documented."""
    parser = argparse.ArgumentParser(prog="fuzz-api", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--requests", type=int, default=5000)
    arguments = parser.parse_args()
    console = Console(highlight=False)
    console.print(f"seed {arguments.seed}, at least {arguments.requests} requests")
    with (
        tempfile.TemporaryDirectory(prefix="ktrdr-fuzz-") as directory,
        running_server() as server,
        server.database() as settings,
        open_runtime(settings, Path(directory)) as runtime,
    ):
        tally = run(start_target(runtime), arguments.requests, arguments.seed)
    show(tally, console)
    return 1 if tally.problems or tally.server_errors else 0


if __name__ == "__main__":
    sys.exit(main())
