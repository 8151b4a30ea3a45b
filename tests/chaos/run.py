"""Chaos run: operations, faults by a seeded schedule, and the verification afterwards."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from ktrdr.errors import KtrdrError
from ktrdr.schemas import Operation, OperationRequest, OperationStatus, OperationType
from tests.chaos.database_checks import DatabaseChecks
from tests.chaos.faults import FAULTS
from tests.chaos.fleet import Fleet, wait_until_ready
from tests.chaos.tally import ChaosTally
from tests.integration.mounts import small_file_system
from tests.integration.postgres import running_server
from tests.integration.processes import open_runtime, wait_for

DATA = Path(__file__).parents[1] / "data" / "sp500_2007_2009.csv"
# A few variants, so that the result of each is known from an undisturbed run.
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("backtest", {"symbol": "SP500", "train_bars": 200, "folds": 4}),
    (
        "backtest",
        {
            "symbol": "SP500",
            "train_bars": 300,
            "folds": 3,
            "strategy": "donchian_breakout",
        },
    ),
    ("training", {"symbol": "SP500", "epochs": 40, "patience": 40, "seed": 1}),
    (
        "training",
        {"symbol": "SP500", "epochs": 60, "patience": 60, "seed": 2, "hidden_units": [24]},
    ),
    (
        "sweep",
        {
            "symbol": "SP500",
            "train_bars": 200,
            "folds": 2,
            "strategy_parameters": {"fast": [5, 10], "slow": [20, 50]},
        },
    ),
)
# A sweep is five operations, so it is chosen less often.
WEIGHTS = (3, 3, 3, 3, 1)
# Files that differ in every run, because they contain times or the operation's id.
VARYING_FILES = ("operation.log", "result.json", "report.html")
VARYING_FIGURES = ("model", "best_operation")
# Errors after too many faults in a row; see ktrdr.operations.retry.
GIVEN_UP_KINDS = ("killed", "lease-lost", "not-ready")
SETTLE_TIMEOUT_S = 300.0
SHARED_MB = 512


def run(seed: int, operations: int, log: Any = print) -> ChaosTally:
    """Run operations while faults are injected, then verify everything.

    Args:
        seed: Seed of the order of operations and of the faults.
        operations: Number of operations, without child operations.
        log: Function that is called with every progress line.
    """
    start = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="ktrdr-chaos-"))
    with (
        running_server() as server,
        server.database() as settings,
        open_runtime(settings, directory) as runtime,
        small_file_system(runtime.shared, SHARED_MB),
    ):
        fleet = Fleet(server, runtime)
        fleet.start()
        with DATA.open("rb") as file:
            fleet.client.import_dataset(file, "SP500", "1d")
        expected = [_run_undisturbed(fleet, index) for index in range(len(VARIANTS))]
        log(f"{time.monotonic() - start:6.1f} s  undisturbed runs done")
        tally = _run_with_faults(fleet, seed, operations, start, log)
        _verify(fleet, expected, tally)
        runtime.stop_all()
        fleet.close()
    tally.seconds = time.monotonic() - start
    if not tally.problems:
        shutil.rmtree(directory)
    return tally


def _run_undisturbed(fleet: Fleet, variant: int) -> dict[str, str]:
    operation_id = _submit(fleet, variant, UUID(int=variant))
    wait_for(
        "an undisturbed run",
        lambda: fleet.client.get_operation(operation_id).status is OperationStatus.COMPLETED,
        120,
    )
    return _hash_result(fleet, fleet.client.get_operation(operation_id))


def _run_with_faults(
    fleet: Fleet, seed: int, operations: int, start: float, log: Any
) -> ChaosTally:
    rng, tally = random.Random(seed), ChaosTally()
    checks = DatabaseChecks(fleet.runtime.settings)
    variants = rng.choices(range(len(VARIANTS)), WEIGHTS, k=operations)
    submitted = [_submit(fleet, variant, UUID(int=rng.getrandbits(128))) for variant in variants]
    schedule: list[str] = []
    while True:
        remaining = sum(not each.status.is_final for each in fleet.all_operations())
        if remaining < len(fleet.workers):
            break
        # Every fault is injected once before any is repeated.
        schedule = schedule or rng.sample(sorted(FAULTS), len(FAULTS))
        name = schedule.pop()
        time.sleep(rng.uniform(0.3, 1.5))
        at = checks.now()
        hit = FAULTS[name](fleet, rng)
        tally.record(name, hit, at)
        log(f"{time.monotonic() - start:6.1f} s  {name}: {len(hit)} hit, {remaining} remaining")
        wait_until_ready(fleet)
    _settle(fleet, tally, submitted)
    return tally


def _settle(fleet: Fleet, tally: ChaosTally, submitted: list[str]) -> None:
    """Wait until all operations have ended, and resume those that failed after too many faults."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while time.monotonic() < deadline:
        operations = fleet.all_operations()
        given_up = [each for each in operations if each.error and each.error.kind in GIVEN_UP_KINDS]
        for each in given_up:
            # A sweep reports a failed child as failed, so it is resumed with the child.
            for operation_id in filter(None, (each.operation_id, each.parent_id)):
                with suppress(KtrdrError):
                    fleet.client.resume(operation_id)
        tally.given_up += len(given_up)
        if not given_up and all(each.status.is_final for each in operations):
            break
        time.sleep(0.3)
    missing = set(submitted) - {each.operation_id for each in fleet.all_operations()}
    tally.problems += [f"{operation_id}: has vanished" for operation_id in missing]


def _verify(fleet: Fleet, expected: list[dict[str, str]], tally: ChaosTally) -> None:
    """Verify that every operation completed once, with the undisturbed result, and left nothing."""
    operations, checks = fleet.all_operations(), DatabaseChecks(fleet.runtime.settings)
    for each in operations:
        if each.status is not OperationStatus.COMPLETED:
            tally.problems.append(f"{each.operation_id}: {each.status} ({each.error})")
            continue
        tally.completed[each.operation_type.value] += 1
        if each.parent_id is None and (others := _differences(fleet, each, expected)):
            tally.problems.append(f"{each.operation_id}: its result differs in {others}")
    with suppress(AssertionError):
        wait_for("the removal of orphans", lambda: not _find_orphans(fleet, operations), 20)
    tally.problems += _find_orphans(fleet, operations)
    tally.problems += checks.contradictions()
    tally.problems += _counter_problems(fleet, checks)
    tally.claims = checks.claims()


def _counter_problems(fleet: Fleet, checks: DatabaseChecks) -> list[str]:
    """Return the differences between the workers' counters and the tables.

    A killed worker loses what it counted since its counters were last read: at most one operation,
    because it runs one at a time. A write whose response was lost is not counted either. Nothing
    may be counted twice.
    """
    counted: Counter[tuple[str, str]] = Counter()
    for worker in fleet.workers:
        counted += worker.saved_counts + worker.read_counts()
    recorded = checks.ended()
    uncounted = sum((recorded - counted).values())
    problems = [f"{key}: counted {n} times too often" for key, n in (counted - recorded).items()]
    # The backend, not a worker, cancels operations and fails those with too many failures.
    by_backend = sum(recorded[key] for key in recorded if key[1] != "completed")
    maximum = fleet.killed + by_backend + MAX_LOST_RESPONSES
    if uncounted > maximum:
        problems.append(f"counters: {uncounted} ends were not counted, at most {maximum} may be")
    return problems


# Some connections break during a commit.
MAX_LOST_RESPONSES = 10


def _variant_of(operation: Operation) -> int:
    """Return the index of the variant whose parameters an operation has."""
    for number, (kind, parameters) in enumerate(VARIANTS):
        is_match = all(
            operation.parameters.get(name) == value for name, value in parameters.items()
        )
        if operation.operation_type == kind and is_match:
            return number
    raise ValueError(f"{operation.operation_id} has the parameters of no variant")


def _find_orphans(fleet: Fleet, operations: list[Operation]) -> list[str]:
    """Return files that should not exist, and missing results."""
    shared, problems = fleet.runtime.shared, []
    names = {each.operation_id.removeprefix("op_") for each in operations}
    results = {path.name for path in (shared / "results").iterdir()}
    problems += [f"results/{name}: belongs to no operation" for name in results - names]
    problems += [f"op_{name}: has no result directory" for name in names - results]
    for name in ("checkpoints", "logs"):
        directory = shared / name
        if directory.is_dir():
            problems += [f"{name}/{path.name}: is left behind" for path in directory.iterdir()]
    models = {path.name.partition("_")[2] for path in (shared / "models").iterdir()}
    trained = {name.removeprefix("training_") for name in names if name.startswith("training_")}
    return problems + [f"models/{name}: is missing or superfluous" for name in models ^ trained]


def _submit(fleet: Fleet, variant: int, key: UUID) -> str:
    kind, parameters = VARIANTS[variant]
    request = OperationRequest(operation_type=OperationType(kind), parameters=parameters)
    return fleet.client.submit(request, idempotency_key=str(key)).operation_id


def _hash_result(fleet: Fleet, operation: Operation) -> dict[str, str]:
    """Return the hashes of the result's files, and its figures."""
    with suppress(KtrdrError):
        results = fleet.client.get_results(operation.operation_id)
        directory = fleet.runtime.shared / results.directory
        files = {
            str(path.relative_to(directory)): hashlib.sha256(_content(path)).hexdigest()
            for path in sorted(directory.rglob("*"))
            if path.is_file() and path.name not in VARYING_FILES
        }
        figures = {
            name: value for name, value in results.summary.items() if name not in VARYING_FIGURES
        }
        if "model" in results.summary:
            model = fleet.runtime.shared / str(results.summary["model"])
            files |= {
                f"model/{path.name}": hashlib.sha256(_content(path)).hexdigest()
                for path in sorted(model.iterdir())
            }
        return {**files, "figures": str(sorted(figures.items()))}
    return {}


def _differences(fleet: Fleet, operation: Operation, expected: list[dict[str, str]]) -> str:
    """Return the files and figures that differ from the undisturbed run."""
    actual, wanted = _hash_result(fleet, operation), expected[_variant_of(operation)]
    names = sorted(name for name in {*actual, *wanted} if actual.get(name) != wanted.get(name))
    return ", ".join(names)


def _content(path: Path) -> bytes:
    """Return the content of a file without ids of operations."""
    content = path.read_bytes()
    if path.name == "results.csv":
        rows = csv.DictReader(io.StringIO(content.decode()))
        comparable = [{k: v for k, v in row.items() if k != "operation"} for row in rows]
        return json.dumps(comparable).encode()
    if path.name == "metadata.json":
        return json.dumps({**json.loads(content), "operation_id": None}).encode()
    return content
