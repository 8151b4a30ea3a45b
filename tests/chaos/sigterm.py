"""`make chaos-sigterm`: workers are told to stop at random moments, as a deploy does it."""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from ktrdr.client.backend import BackendClient
from ktrdr.schemas import OperationRequest, OperationStatus, OperationType
from tests.chaos.truth import Tables
from tests.integration.postgres import running_server
from tests.integration.processes import Process, Site, site, wait_for

DATA = Path(__file__).parents[1] / "data" / "sp500_2007_2009.csv"
# Some seconds of work each, in steps of which none takes long.
WORK: dict[str, dict[str, Any]] = {
    "training": {"symbol": "SP500", "epochs": 150, "patience": 150, "hidden_units": [48]},
    "backtest": {"symbol": "SP500", "train_bars": 50, "folds": 60},
}
LIMIT_S = 30.0


@dataclass
class Stops:
    """What came of stopping workers.

    Attributes:
        seconds: How long each took to exit.
        outcomes: What had become of the operation by then, and how often.
        problems: What must not be.
    """

    seconds: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def run(seed: int, times: int, say: Any = print) -> Stops:
    """Stops a working worker so many times, and looks at what it leaves.

    Args:
        seed: Decides which worker is stopped when.
        times: How often.
        say: Is told what happens.
    """
    dice, stops = random.Random(seed), Stops()
    with (
        tempfile.TemporaryDirectory(prefix="ktrdr-sigterm-") as place,
        running_server() as server,
        server.database() as settings,
        site(settings, Path(place)) as found,
    ):
        backend = found.backend()
        client, tables = found.client(backend), Tables(settings)
        with DATA.open("rb") as file:
            client.import_dataset(file, "SP500", "1d")
        workers = {kind: found.worker(kind, backend, LEASE_S="10") for kind in WORK}
        wanted = {kind: _summary(client, _submit(client, kind)) for kind in WORK}
        submitted: list[str] = []
        for number in range(1, times + 1):
            kind = dice.choice(sorted(WORK))
            operation = _one_running(client, kind, submitted)
            time.sleep(dice.uniform(0, 2))
            _stop(number, workers[kind], operation, client, tables, stops, say)
            workers[kind] = found.worker(kind, backend, LEASE_S="10")
        for each in submitted:
            if _summary(client, each) != wanted[client.get_operation(each).operation_type.value]:
                stops.problems.append(f"{each}: its result is another one")
        stops.problems += tables.contradictions()
        stops.problems += _tracebacks(found)
    return stops


def _one_running(client: BackendClient, kind: str, submitted: list[str]) -> str:
    """An operation of a type that runs now; submitted anew if there is none."""
    while True:
        unfinished = [
            each
            for each in client.list_operations(operation_type=kind).operations
            if not each.status.is_final
        ]
        for each in unfinished:
            if each.status is OperationStatus.RUNNING:
                return each.operation_id
        if not unfinished:
            submitted.append(_submit(client, kind))
        time.sleep(0.05)


def _stop(
    number: int,
    worker: Process,
    operation_id: str,
    client: BackendClient,
    tables: Tables,
    stops: Stops,
    say: Any,
) -> None:
    began = client.get_operation(operation_id)
    steps = tables.step(operation_id)
    seconds = worker.stop(60)
    after = client.get_operation(operation_id)
    outcome = after.status.value
    if after.status is OperationStatus.PENDING:
        kept = tables.step(operation_id)
        outcome = f"handed over after step {'1 or more' if kept else 'none'}"
        if kept < steps:
            stops.problems.append(
                f"{operation_id}: its checkpoint went back from {steps} to {kept}"
            )
        if kept == 0 and after.progress > 0:
            stops.problems.append(f"{operation_id}: it had begun, and left no checkpoint")
    if seconds > LIMIT_S:
        stops.problems.append(f"stop {number}: it took {seconds:.1f} s")
    if worker.popen.returncode not in (0, -15):
        stops.problems.append(f"stop {number}: exit code {worker.popen.returncode}")
    if after.status is OperationStatus.RUNNING and after.worker_id == began.worker_id:
        stops.problems.append(f"{operation_id}: still runs on a worker that has ended")
    stops.seconds.append(seconds)
    stops.outcomes[outcome] += 1
    say(f"{number:4}  {seconds:5.2f} s  {outcome}")


def _submit(client: BackendClient, kind: str) -> str:
    request = OperationRequest(operation_type=OperationType(kind), parameters=WORK[kind])
    return client.submit(request, idempotency_key=secrets.token_hex(8)).operation_id


def _summary(client: BackendClient, operation_id: str) -> dict[str, Any]:
    wait_for(operation_id, lambda: client.get_operation(operation_id).status.is_final, 120)
    found = dict(client.get_results(operation_id).summary)
    found.pop("model", None)
    return found


def _tracebacks(found: Site) -> list[str]:
    return [
        f"{process.log.name}: holds a traceback"
        for process in found.processes
        if "Traceback" in process.output
    ]


def main() -> int:
    """Runs it; the exit code is 0 when every stop was a good one."""
    parser = argparse.ArgumentParser(prog="chaos-sigterm", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--times", type=int, default=100)
    asked = parser.parse_args()
    console = Console(highlight=False)
    console.print(f"seed {asked.seed}, {asked.times} times")
    stops = run(asked.seed, asked.times, say=console.print)
    table = Table("by its exit the operation was", "times", box=None, header_style="bold")
    for outcome, number in stops.outcomes.most_common():
        table.add_row(outcome, str(number))
    console.print(table)
    console.print(
        f"exited after {median(stops.seconds):.2f} s (median), {max(stops.seconds):.2f} s (longest)"
    )
    for problem in stops.problems:
        console.print(f"[red]{problem}[/]")
    if stops.problems:
        console.print(
            f"again with: .venv/bin/python -m tests.chaos.sigterm --seed {asked.seed} "
            f"--times {asked.times}"
        )
    return 1 if stops.problems else 0


if __name__ == "__main__":
    sys.exit(main())
