"""One run: operations, faults by a seeded schedule, and the account of what came of it."""

from __future__ import annotations

import hashlib
import random
import shutil
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from ktrdr.contracts import Operation, OperationRequest, OperationStatus, OperationType
from ktrdr.errors import KtrdrError
from tests.chaos.faults import FAULTS
from tests.chaos.fleet import Fleet, wait_until_all_answer
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
            "strategy_parameters": {"fast": [5, 10]},
        },
    ),
    ("training", {"symbol": "SP500", "epochs": 40, "patience": 40, "seed": 1}),
    (
        "training",
        {
            "symbol": "SP500",
            "epochs": 60,
            "patience": 60,
            "seed": 2,
            "hidden_units": [24],
        },
    ),
)
# These tell of the run, not of its outcome: times of day, and the operation's own name.
TELLING_OF_THE_RUN = ("operation.log", "result.json", "report.html")
# Where a fault may stop an operation from being tried again; see MAX_DEATHS and MAX_LOST_LEASES.
GIVEN_UP = ("killed", "lease-lost")
SETTLE_S = 300.0


@dataclass
class Account:
    """What faults have done.

    Attributes:
        injected: How often each was injected.
        hit: The operations each has hit, as often as it did.
        given_up: Operations that failed because they had been hit too often, and were resumed.
        problems: What must not be: each is a reason to fail.
    """

    injected: Counter[str] = field(default_factory=Counter)
    hit: dict[str, list[str]] = field(default_factory=dict)
    given_up: int = 0
    problems: list[str] = field(default_factory=list)
    completed: int = 0
    seconds: float = 0.0

    def table(self) -> list[tuple[str, int, int, int, int]]:
        """Fault, injected, operations hit, recovered, lost."""
        lost = {problem.partition(":")[0] for problem in self.problems}
        rows = []
        for name in FAULTS:
            hit = self.hit.get(name, [])
            gone = sum(operation in lost for operation in hit)
            rows.append((name, self.injected[name], len(hit), len(hit) - gone, gone))
        return rows


def run(seed: int, operations: int, say: Any = print) -> Account:
    """Runs so many operations while faults are injected, and looks at everything afterwards.

    Args:
        seed: Decides which work comes in which order, and which fault strikes when and whom.
        operations: How many.
        say: Is told what happens.
    """
    began = time.monotonic()
    place = Path(tempfile.mkdtemp(prefix="ktrdr-chaos-"))
    with running_server() as server, server.database() as settings, site(settings, place) as found:
        fleet = Fleet(server, found)
        fleet.start()
        with DATA.open("rb") as file:
            fleet.client.import_dataset(file, "SP500", "1d")
        expected = [_undisturbed(fleet, index) for index in range(len(VARIANTS))]
        say(f"{time.monotonic() - began:6.1f} s  undisturbed runs done")
        account = _disturbed(fleet, seed, operations, began, say)
        _examine(fleet, expected, account)
    account.seconds = time.monotonic() - began
    if not account.problems:
        shutil.rmtree(place)
    return account


def _undisturbed(fleet: Fleet, variant: int) -> dict[str, str]:
    operation_id = _submit(fleet, variant, UUID(int=variant))
    wait_for(
        "an undisturbed run",
        lambda: fleet.client.operation(operation_id).status is OperationStatus.COMPLETED,
        120,
    )
    return _digests(fleet, fleet.client.operation(operation_id))


def _disturbed(fleet: Fleet, seed: int, operations: int, began: float, say: Any) -> Account:
    dice, account = random.Random(seed), Account()
    submitted = [
        _submit(fleet, dice.randrange(len(VARIANTS)), UUID(int=dice.getrandbits(128)))
        for _ in range(operations)
    ]
    schedule: list[str] = []
    while True:
        left = sum(not each.status.is_final for each in fleet.all_operations())
        if left < len(fleet.members):
            break
        # Every fault once before any comes again.
        schedule = schedule or dice.sample(sorted(FAULTS), len(FAULTS))
        name = schedule.pop()
        time.sleep(dice.uniform(0.3, 1.5))
        hit = FAULTS[name](fleet, dice)
        account.injected[name] += 1
        account.hit.setdefault(name, []).extend(each.operation_id for each in hit)
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
            fleet.client.resume(each.operation_id)
        account.given_up += len(given_up)
        if not given_up and all(each.status.is_final for each in found):
            break
        time.sleep(0.3)
    missing = set(submitted) - {each.operation_id for each in fleet.all_operations()}
    account.problems += [f"{operation_id}: has vanished" for operation_id in missing]


def _examine(fleet: Fleet, expected: list[dict[str, str]], account: Account) -> None:
    """Every operation ended well, once, with the undisturbed run's result, and nothing is left."""
    found = fleet.all_operations()
    for each in found:
        if each.status is not OperationStatus.COMPLETED:
            account.problems.append(f"{each.operation_id}: {each.status} ({each.error})")
            continue
        account.completed += 1
        if _digests(fleet, each) != expected[_variant_of(each)]:
            account.problems.append(f"{each.operation_id}: its result is another one")
    with suppress(AssertionError):
        wait_for("the sweep", lambda: not _left_behind(fleet, found), 20)
    account.problems += _left_behind(fleet, found)


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
    kept = shared / "checkpoints"
    if kept.is_dir():
        problems += [f"checkpoints/{path.name}: is left behind" for path in kept.iterdir()]
    settings = fleet.site.settings
    with psycopg.connect(
        host=settings.db_host,
        port=settings.db_port,
        dbname=settings.db_name,
        user=settings.db_user.reveal(),
        password=settings.db_password.reveal(),
    ) as connection:
        twice = connection.execute(
            "SELECT operation_id, count(*) FROM operation_events"
            " WHERE kind = 'finished' AND status = 'completed'"
            " GROUP BY operation_id HAVING count(*) > 1"
        ).fetchall()
    return problems + [f"{name}: completed {count} times" for name, count in twice]


def _submit(fleet: Fleet, variant: int, key: UUID) -> str:
    kind, parameters = VARIANTS[variant]
    request = OperationRequest(operation_type=OperationType(kind), parameters=parameters)
    return fleet.client.submit(request, idempotency_key=str(key)).operation_id


def _digests(fleet: Fleet, operation: Operation) -> dict[str, str]:
    """The result's files by the hash of what is in them, and its figures."""
    with suppress(KtrdrError):
        results = fleet.client.results(operation.operation_id)
        directory = fleet.site.shared / results.directory
        files = {
            str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(directory.rglob("*"))
            if path.is_file() and path.name not in TELLING_OF_THE_RUN
        }
        figures = {name: value for name, value in results.summary.items() if name != "model"}
        return {**files, "figures": str(sorted(figures.items()))}
    return {}
