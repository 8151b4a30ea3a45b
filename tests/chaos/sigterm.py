"""`make chaos-sigterm`: stop workers at random moments, as a deploy does."""

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
from tests.chaos.database_checks import DatabaseChecks
from tests.integration.postgres import running_server
from tests.integration.processes import Runtime, ServerProcess, open_runtime, wait_for

DATA = Path(__file__).parents[1] / "data" / "sp500_2007_2009.csv"
# Some seconds each, in short steps.
WORK: dict[str, dict[str, Any]] = {
    "training": {"symbol": "SP500", "epochs": 150, "patience": 150, "hidden_units": [48]},
    "backtest": {"symbol": "SP500", "train_bars": 50, "folds": 60},
}
MAX_STOP_S = 30.0


@dataclass
class StopResults:
    """Results of stopping workers.

    Attributes:
        seconds: Seconds until each worker exited.
        outcomes: Number of stops by the operation's status afterwards.
        problems: Violations, each of which fails the run.
    """

    seconds: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def run(seed: int, times: int, log: Any = print) -> StopResults:
    """Stop a busy worker several times, and verify the state that it leaves.

    Args:
        seed: Seed of the choice of worker and moment.
        times: Number of stops.
        log: Function that is called with every progress line.
    """
    rng, stops = random.Random(seed), StopResults()
    with (
        tempfile.TemporaryDirectory(prefix="ktrdr-sigterm-") as directory,
        running_server() as server,
        server.database() as settings,
        open_runtime(settings, Path(directory)) as runtime,
    ):
        backend = runtime.backend()
        client, checks = runtime.client(backend), DatabaseChecks(settings)
        with DATA.open("rb") as file:
            client.import_dataset(file, "SP500", "1d")
        workers = {kind: runtime.worker(kind, backend, LEASE_S="10") for kind in WORK}
        expected = {kind: _summary(client, _submit(client, kind)) for kind in WORK}
        submitted: list[str] = []
        for number in range(1, times + 1):
            kind = rng.choice(sorted(WORK))
            operation = _running_operation(client, kind, submitted)
            time.sleep(rng.uniform(0, 2))
            _stop(number, workers[kind], operation, client, checks, stops, log)
            workers[kind] = runtime.worker(kind, backend, LEASE_S="10")
        for operation_id in submitted:
            kind = client.get_operation(operation_id).operation_type.value
            if _summary(client, operation_id) != expected[kind]:
                stops.problems.append(f"{operation_id}: its result differs")
        stops.problems += checks.contradictions()
        stops.problems += _tracebacks(runtime)
    return stops


def _running_operation(client: BackendClient, kind: str, submitted: list[str]) -> str:
    """Return a running operation of a type, and submit one if there is none."""
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
    worker: ServerProcess,
    operation_id: str,
    client: BackendClient,
    checks: DatabaseChecks,
    stops: StopResults,
    log: Any,
) -> None:
    before = client.get_operation(operation_id)
    earlier_step = checks.step(operation_id)
    seconds = worker.stop(60)
    after = client.get_operation(operation_id)
    outcome = after.status.value
    if after.status is OperationStatus.PENDING:
        step = checks.step(operation_id)
        outcome = f"requeued after step {'1 or more' if step else 'none'}"
        if step < earlier_step:
            stops.problems.append(
                f"{operation_id}: its checkpoint went back from {earlier_step} to {step}"
            )
        if step == 0 and after.progress > 0:
            stops.problems.append(f"{operation_id}: it had progress but left no checkpoint")
    if seconds > MAX_STOP_S:
        stops.problems.append(f"stop {number}: it took {seconds:.1f} s")
    if worker.popen.returncode not in (0, -15):
        stops.problems.append(f"stop {number}: exit code {worker.popen.returncode}")
    if after.status is OperationStatus.RUNNING and after.worker_id == before.worker_id:
        stops.problems.append(f"{operation_id}: still runs on a worker that has exited")
    stops.seconds.append(seconds)
    stops.outcomes[outcome] += 1
    log(f"{number:4}  {seconds:5.2f} s  {outcome}")


def _submit(client: BackendClient, kind: str) -> str:
    request = OperationRequest(operation_type=OperationType(kind), parameters=WORK[kind])
    return client.submit(request, idempotency_key=secrets.token_hex(8)).operation_id


def _summary(client: BackendClient, operation_id: str) -> dict[str, Any]:
    wait_for(operation_id, lambda: client.get_operation(operation_id).status.is_final, 120)
    summary = dict(client.get_results(operation_id).summary)
    summary.pop("model", None)
    return summary


def _tracebacks(runtime: Runtime) -> list[str]:
    return [
        f"{process.log.name}: contains a traceback"
        for process in runtime.processes
        if "Traceback" in process.output
    ]


def main() -> int:
    """Run the stops; return 0 without problems."""
    parser = argparse.ArgumentParser(prog="chaos-sigterm", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--times", type=int, default=100)
    arguments = parser.parse_args()
    console = Console(highlight=False)
    console.print(f"seed {arguments.seed}, {arguments.times} times")
    stops = run(arguments.seed, arguments.times, log=console.print)
    table = Table("operation after the exit", "times", box=None, header_style="bold")
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
            f"repeat with: .venv/bin/python -m tests.chaos.sigterm --seed {arguments.seed} "
            f"--times {arguments.times}"
        )
    return 1 if stops.problems else 0


if __name__ == "__main__":
    sys.exit(main())
