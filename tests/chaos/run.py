"""One run: operations, faults by a seeded schedule, and the account of what came of it."""

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
from tests.chaos.account import Account
from tests.chaos.faults import FAULTS
from tests.chaos.fleet import Fleet, wait_until_all_answer
from tests.chaos.truth import Tables
from tests.integration.mounts import small_file_system
from tests.integration.postgres import running_server
from tests.integration.processes import site, wait_for

DATA = Path(__file__).parents[1] / "data" / "sp500_2007_2009.csv"
# Few kinds of work, so that each is known from an undisturbed run.
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
# A sweep is five operations: it comes less often than the others.
WEIGHTS = (3, 3, 3, 3, 1)
# These tell of the run, not of its outcome: times of day, and the operation's own name.
TELLING_OF_THE_RUN = ("operation.log", "result.json", "report.html")
NAMING_OPERATIONS = ("model", "best_operation")
# Where faults in a row stop an operation from being tried again; see ktrdr.operations.settlement.
GIVEN_UP = ("killed", "lease-lost", "not-ready")
SETTLE_S = 300.0
SHARED_MB = 512


def run(seed: int, operations: int, say: Any = print) -> Account:
    """Runs so many operations while faults are injected, and looks at everything afterwards.

    Args:
        seed: Decides which work comes in which order, and which fault strikes when and whom.
        operations: How many; the parts of a sweep are not counted.
        say: Is told what happens.
    """
    began = time.monotonic()
    place = Path(tempfile.mkdtemp(prefix="ktrdr-chaos-"))
    with (
        running_server() as server,
        server.database() as settings,
        site(settings, place) as found,
        small_file_system(found.shared, SHARED_MB),
    ):
        fleet = Fleet(server, found)
        fleet.start()
        with DATA.open("rb") as file:
            fleet.client.import_dataset(file, "SP500", "1d")
        expected = [_undisturbed(fleet, index) for index in range(len(VARIANTS))]
        say(f"{time.monotonic() - began:6.1f} s  undisturbed runs done")
        account = _disturbed(fleet, seed, operations, began, say)
        _examine(fleet, expected, account)
        found.end()
        fleet.close()
    account.seconds = time.monotonic() - began
    if not account.problems:
        shutil.rmtree(place)
    return account


def _undisturbed(fleet: Fleet, variant: int) -> dict[str, str]:
    operation_id = _submit(fleet, variant, UUID(int=variant))
    wait_for(
        "an undisturbed run",
        lambda: fleet.client.get_operation(operation_id).status is OperationStatus.COMPLETED,
        120,
    )
    return _digests(fleet, fleet.client.get_operation(operation_id))


def _disturbed(fleet: Fleet, seed: int, operations: int, began: float, say: Any) -> Account:
    dice, account = random.Random(seed), Account()
    tables = Tables(fleet.site.settings)
    variants = dice.choices(range(len(VARIANTS)), WEIGHTS, k=operations)
    submitted = [_submit(fleet, each, UUID(int=dice.getrandbits(128))) for each in variants]
    schedule: list[str] = []
    while True:
        left = sum(not each.status.is_final for each in fleet.all_operations())
        if left < len(fleet.members):
            break
        # Every fault once before any comes again.
        schedule = schedule or dice.sample(sorted(FAULTS), len(FAULTS))
        name = schedule.pop()
        time.sleep(dice.uniform(0.3, 1.5))
        at = tables.now()
        hit = FAULTS[name](fleet, dice)
        account.note(name, hit, at)
        say(f"{time.monotonic() - began:6.1f} s  {name}: {len(hit)} hit, {left} to go")
        wait_until_all_answer(fleet)
    _settle(fleet, account, submitted)
    return account


def _settle(fleet: Fleet, account: Account, submitted: list[str]) -> None:
    """Waits for the end of all, and resumes what was given up because it was hit too often."""
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        found = fleet.all_operations()
        given_up = [each for each in found if each.error and each.error.kind in GIVEN_UP]
        for each in given_up:
            # A part that failed is collected as failed: the whole is done again with it.
            for name in filter(None, (each.operation_id, each.parent_id)):
                with suppress(KtrdrError):
                    fleet.client.resume(name)
        account.given_up += len(given_up)
        if not given_up and all(each.status.is_final for each in found):
            break
        time.sleep(0.3)
    missing = set(submitted) - {each.operation_id for each in fleet.all_operations()}
    account.problems += [f"{operation_id}: has vanished" for operation_id in missing]


def _examine(fleet: Fleet, expected: list[dict[str, str]], account: Account) -> None:
    """Every operation ended well, once, with the undisturbed run's result, and nothing is left."""
    found, tables = fleet.all_operations(), Tables(fleet.site.settings)
    for each in found:
        if each.status is not OperationStatus.COMPLETED:
            account.problems.append(f"{each.operation_id}: {each.status} ({each.error})")
            continue
        account.completed[each.operation_type.value] += 1
        if each.parent_id is None and (others := _differences(fleet, each, expected)):
            account.problems.append(f"{each.operation_id}: its result is another one in {others}")
    with suppress(AssertionError):
        wait_for("the sweep", lambda: not _left_behind(fleet, found), 20)
    account.problems += _left_behind(fleet, found)
    account.problems += tables.contradictions()
    account.problems += _miscounted(fleet, tables)
    account.started = tables.starts()


def _miscounted(fleet: Fleet, tables: Tables) -> list[str]:
    """Where the workers' counters say something else than the tables.

    A worker that is killed takes with it what it counted since it was last looked at: it had one
    operation at a time, so it can be one a kill. A write whose answer was lost with the connection
    is not counted either, although it was made. Nothing may be counted twice.
    """
    counted: Counter[tuple[str, str]] = Counter()
    for member in fleet.members:
        counted += member.counted + member.counts()
    told = tables.ended()
    unknown = sum((told - counted).values())
    problems = [f"{key}: counted {n} times too often" for key, n in (counted - told).items()]
    # Cancelling and giving up are the backend's doing, and no worker's.
    most = fleet.killed + sum(told[key] for key in told if key[1] != "completed") + LOST_ANSWERS
    if unknown > most:
        problems.append(f"counters: {unknown} ends were not counted, of {most} at most")
    return problems


# Connections are cut in the middle of a commit now and then.
LOST_ANSWERS = 10


def _variant_of(operation: Operation) -> int:
    """Which kind of work an operation is, by those parameters that a variant gives."""
    for number, (kind, parameters) in enumerate(VARIANTS):
        same = all(operation.parameters.get(name) == value for name, value in parameters.items())
        if operation.operation_type == kind and same:
            return number
    raise ValueError(f"{operation.operation_id} is work that nobody submitted")


def _left_behind(fleet: Fleet, found: list[Operation]) -> list[str]:
    """What should not be there any more, or is there twice."""
    shared, problems = fleet.site.shared, []
    names = {each.operation_id.removeprefix("op_") for each in found}
    results = {path.name for path in (shared / "results").iterdir()}
    problems += [f"results/{name}: belongs to no operation" for name in results - names]
    problems += [f"op_{name}: has no result directory" for name in names - results]
    for place in ("checkpoints", "logs"):
        kept = shared / place
        if kept.is_dir():
            problems += [f"{place}/{path.name}: is left behind" for path in kept.iterdir()]
    models = {path.name.partition("_")[2] for path in (shared / "models").iterdir()}
    trained = {name.removeprefix("training_") for name in names if name.startswith("training_")}
    return problems + [f"models/{name}: is not as it should be" for name in models ^ trained]


def _submit(fleet: Fleet, variant: int, key: UUID) -> str:
    kind, parameters = VARIANTS[variant]
    request = OperationRequest(operation_type=OperationType(kind), parameters=parameters)
    return fleet.client.submit(request, idempotency_key=str(key)).operation_id


def _digests(fleet: Fleet, operation: Operation) -> dict[str, str]:
    """The result's files by the hash of what is in them, and its figures."""
    with suppress(KtrdrError):
        results = fleet.client.get_results(operation.operation_id)
        directory = fleet.site.shared / results.directory
        files = {
            str(path.relative_to(directory)): hashlib.sha256(_content(path)).hexdigest()
            for path in sorted(directory.rglob("*"))
            if path.is_file() and path.name not in TELLING_OF_THE_RUN
        }
        figures = {
            name: value for name, value in results.summary.items() if name not in NAMING_OPERATIONS
        }
        if "model" in results.summary:
            model = fleet.site.shared / str(results.summary["model"])
            files |= {
                f"model/{path.name}": hashlib.sha256(_content(path)).hexdigest()
                for path in sorted(model.iterdir())
            }
        return {**files, "figures": str(sorted(figures.items()))}
    return {}


def _differences(fleet: Fleet, operation: Operation, expected: list[dict[str, str]]) -> str:
    """Which files or figures are not those of the undisturbed run."""
    found, wanted = _digests(fleet, operation), expected[_variant_of(operation)]
    names = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    return ", ".join(names)


def _content(path: Path) -> bytes:
    """What a file holds, all but the names of operations."""
    content = path.read_bytes()
    if path.name == "results.csv":
        rows = csv.DictReader(io.StringIO(content.decode()))
        kept = [{k: v for k, v in row.items() if k != "operation"} for row in rows]
        return json.dumps(kept).encode()
    if path.name == "metadata.json":
        return json.dumps({**json.loads(content), "operation_id": None}).encode()
    return content
