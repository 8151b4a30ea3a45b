"""Sweeps: their children run on several workers, and are collected, cancelled and resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ktrdr.client.backend import BackendClient
from ktrdr.database.pool import make_pool, transaction
from ktrdr.errors import InvalidParameters
from ktrdr.operations.leases import LeaseStore
from ktrdr.operations.model import Claim
from ktrdr.operations.store import OperationFilter, OperationStore
from ktrdr.schemas import (
    BacktestParameters,
    ErrorDetail,
    Operation,
    OperationParameters,
    OperationRequest,
    OperationStatus,
    OperationType,
    SweepParameters,
)
from ktrdr.settings import Settings
from tests.integration.identities import ADA
from tests.integration.processes import Runtime, ServerProcess, wait_for

DATA = Path(__file__).parents[1] / "data" / "sp500_2007_2009.csv"
SWEEP = OperationRequest(operation_type=OperationType.SWEEP, parameters={"symbol": "SP500"})
RESULT = {"summary": {"sharpe": 1.0}, "directory": "d", "files": [], "report": "r"}


def expand_to_three(parameters: OperationParameters) -> Sequence[OperationParameters]:
    if not isinstance(parameters, SweepParameters):
        return ()
    return [BacktestParameters(symbol=parameters.symbol, folds=folds) for folds in (1, 2, 3)]


class Sweeps:
    """Operation store that expands sweeps to three backtests, and a lease store."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.store = OperationStore(pool, expand_sweep=expand_to_three)
        self.leases = LeaseStore(pool)

    async def submit(self, key: str | None = None) -> tuple[str, list[str]]:
        ((parent, _),) = await self.store.submit([SWEEP], by=ADA, idempotency_key=key)
        page = await self.store.list_page(OperationFilter(parent_id=parent.operation_id))
        return parent.operation_id, [each.operation_id for each in reversed(page.operations)]

    async def try_claim(self, operation_id: str) -> Claim | None:
        return await self.leases.claim(operation_id, worker_id="w", lease_s=30)

    async def claim(self, operation_id: str) -> Claim:
        claim = await self.try_claim(operation_id)
        assert claim is not None
        return claim

    async def complete(self, operation_id: str) -> None:
        await self.leases.complete((await self.claim(operation_id)).lease, RESULT)

    async def list_queued(self) -> list[str]:
        async with transaction(self.pool) as connection:
            cursor = await connection.execute(
                "SELECT args ->> 'operation_id' AS id FROM procrastinate_jobs ORDER BY id"
            )
            return sorted(row["id"] for row in await cursor.fetchall())


def run_scenario(settings: Settings, scenario: Any) -> None:
    async def run() -> None:
        async with make_pool(settings, "test", max_size=8) as pool:
            await scenario(Sweeps(pool))

    asyncio.run(run())


def test_a_sweep_is_inserted_with_its_children_and_only_they_are_queued(database: Settings) -> None:
    async def scenario(sweeps: Sweeps) -> None:
        parent, children = await sweeps.submit()
        assert await sweeps.list_queued() == sorted(children)
        assert [(await sweeps.store.get(each)).parameters["folds"] for each in children] == [
            1,
            2,
            3,
        ]
        shown = await sweeps.store.list_page(OperationFilter(include_children=False))
        assert [each.operation_id for each in shown.operations] == [parent]
        assert await sweeps.try_claim(parent) is None, "its children have not ended"

    run_scenario(database, scenario)


def test_simultaneous_submissions_of_a_sweep_create_it_once_with_its_children(
    database: Settings,
) -> None:
    async def scenario(sweeps: Sweeps) -> None:
        submitted = await asyncio.gather(*(sweeps.submit("the same") for _ in range(12)))
        assert {parent for parent, _ in submitted} == {submitted[0][0]}
        assert (
            len(
                (
                    await sweeps.store.list_page(OperationFilter(parent_id=submitted[0][0]))
                ).operations
            )
            == 3
        )
        assert len(await sweeps.list_queued()) == 3

    run_scenario(database, scenario)


def test_the_parent_runs_with_its_first_child_and_is_queued_once_after_its_last(
    database: Settings,
) -> None:
    async def scenario(sweeps: Sweeps) -> None:
        parent, children = await sweeps.submit()
        first = await sweeps.claim(children[0])
        assert (await sweeps.store.get(parent)).status is OperationStatus.RUNNING
        await sweeps.leases.complete(first.lease, RESULT)
        seen = await sweeps.store.get(parent)
        assert seen.progress_message == "1 of 3 child operations ended"
        assert seen.progress == pytest.approx(0.95 / 3)
        # The last two end simultaneously: exactly one of them may queue the parent.
        claims = [await sweeps.claim(each) for each in children[1:]]
        await asyncio.gather(*(sweeps.leases.complete(each.lease, RESULT) for each in claims))
        assert (await sweeps.list_queued()).count(parent) == 1
        claimed = await sweeps.claim(parent)
        results = await sweeps.leases.list_child_results(claimed.lease)
        assert [each.operation_id for each in results] == children
        assert all(each.summary == {"sharpe": 1.0} and each.error is None for each in results)

    run_scenario(database, scenario)


def test_a_failed_child_counts_as_ended_and_has_its_error(database: Settings) -> None:
    async def scenario(sweeps: Sweeps) -> None:
        parent, children = await sweeps.submit()
        error = ErrorDetail(kind="x", message="no such data")
        await sweeps.leases.fail((await sweeps.claim(children[0])).lease, error)
        await sweeps.store.cancel(children[1], by=ADA)
        await sweeps.complete(children[2])
        results = await sweeps.leases.list_child_results((await sweeps.claim(parent)).lease)
        assert [each.error for each in results] == [
            "no such data",
            "the operation was cancelled",
            None,
        ]

    run_scenario(database, scenario)


def test_cancelling_and_resuming_a_parent_includes_its_children(
    database: Settings,
) -> None:
    async def scenario(sweeps: Sweeps) -> None:
        parent, children = await sweeps.submit()
        await sweeps.complete(children[0])
        running = await sweeps.claim(children[1])
        assert (await sweeps.store.cancel(parent, by=ADA)).status is OperationStatus.CANCELLED
        assert (await sweeps.store.get(children[2])).status is OperationStatus.CANCELLED
        assert (
            await sweeps.leases.renew(running.lease, lease_s=30, progress=None, message=None)
        ).is_cancel_requested
        await sweeps.leases.mark_cancelled(running.lease)
        assert (await sweeps.store.resume(parent, by=ADA)).status is OperationStatus.PENDING
        assert await sweeps.try_claim(parent) is None
        for each in children[1:]:
            await sweeps.complete(each)
        assert (await sweeps.store.get(children[0])).attempt == 1, (
            "a completed child is not repeated"
        )
        await sweeps.claim(parent)

    run_scenario(database, scenario)


def test_the_end_of_children_and_the_cancellation_of_their_parent_do_not_deadlock(
    database: Settings,
) -> None:
    async def scenario(sweeps: Sweeps) -> None:
        for _ in range(20):
            parent, children = await sweeps.submit()
            claims = [await sweeps.claim(each) for each in children]
            await asyncio.gather(
                sweeps.store.cancel(parent, by=ADA),
                *(sweeps.leases.complete(each.lease, RESULT) for each in claims),
                return_exceptions=True,
            )
            assert (await sweeps.store.get(parent)).status in ("cancelled", "running")

    run_scenario(database, scenario)


def test_the_reaper_queues_a_parent_whose_queue_entry_was_lost(database: Settings) -> None:
    async def scenario(sweeps: Sweeps) -> None:
        parent, children = await sweeps.submit()
        for each in children:
            await sweeps.complete(each)
        async with transaction(sweeps.pool) as connection:
            await connection.execute("DELETE FROM procrastinate_jobs")
            await connection.execute("UPDATE operations SET queued_at = now() - interval '2 min'")
        await sweeps.leases.reap()
        assert await sweeps.list_queued() == [parent]

    run_scenario(database, scenario)


@pytest.fixture
def client(runtime: Runtime, backend: ServerProcess) -> BackendClient:
    client = runtime.client(backend)
    with DATA.open("rb") as file:
        client.import_dataset(file, "SP500", "1d")
    return client


def wait_for_end(client: BackendClient, operation_id: str) -> Operation:
    wait_for("the end", lambda: client.get_operation(operation_id).status.is_final, 90)
    return client.get_operation(operation_id)


def test_a_sweep_runs_on_two_workers_and_ends_in_one_report(
    runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    for _ in range(2):
        runtime.worker("backtest", backend)
    parameters = {
        "symbol": "SP500",
        "train_bars": 200,
        "folds": 2,
        "strategy_parameters": {"fast": [5, 10, 60], "slow": [20, 50]},
    }
    request = OperationRequest(operation_type=OperationType.SWEEP, parameters=parameters)
    done = wait_for_end(client, client.submit(request, idempotency_key="sweep").operation_id)
    assert done.status is OperationStatus.COMPLETED
    children = client.list_operations(parent_id=done.operation_id).operations
    assert len(children) == 4, "combinations with a fast average that is not faster are left out"
    assert len({each.worker_id for each in children}) == 2
    results = client.get_results(done.operation_id)
    assert results.summary["parts"] == 4
    assert {"report.html", "results.csv"} <= set(results.files)


def test_a_sweep_over_an_unknown_strategy_or_parameter_is_rejected_before_anything_is_inserted(
    client: BackendClient,
) -> None:
    for parameters, words in (
        ({"strategy": "moving_average_cros"}, "no strategy moving_average_cros"),
        ({"strategy_parameters": {"fats": [1, 2]}}, "has no parameter fats"),
        ({"strategy_parameters": {"fast": [60], "slow": [50]}}, "no combination"),
    ):
        request = OperationRequest(
            operation_type=OperationType.SWEEP, parameters={"symbol": "SP500", **parameters}
        )
        with pytest.raises(InvalidParameters, match=words):
            client.submit(request, idempotency_key=words)
    assert client.list_operations().operations == []
