"""Operations that are divided: fanned out over workers, collected once, cancelled and resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ktrdr.client.backend import BackendClient
from ktrdr.database.pool import make_pool, transaction
from ktrdr.errors import InvalidParameters
from ktrdr.operations.leases import LeaseBook
from ktrdr.operations.model import Claim
from ktrdr.operations.store import Filter, OperationStore
from ktrdr.schemas import (
    BacktestParameters,
    Operation,
    OperationFault,
    OperationParameters,
    OperationRequest,
    OperationStatus,
    OperationType,
    SweepParameters,
)
from ktrdr.settings import Settings
from tests.integration.identities import ADA
from tests.integration.processes import Process, Site, wait_for

DATA = Path(__file__).parents[1] / "data" / "sp500_2007_2009.csv"
SWEEP = OperationRequest(operation_type=OperationType.SWEEP, parameters={"symbol": "SP500"})
RESULT = {"summary": {"sharpe": 1.0}, "directory": "d", "files": [], "report": "r"}


def three_parts(parameters: OperationParameters) -> Sequence[OperationParameters]:
    if not isinstance(parameters, SweepParameters):
        return ()
    return [BacktestParameters(symbol=parameters.symbol, folds=folds) for folds in (1, 2, 3)]


class Desk:
    """A store that divides sweeps into three, and a lease book."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.store = OperationStore(pool, divide=three_parts)
        self.leases = LeaseBook(pool)

    async def submitted(self, key: str | None = None) -> tuple[str, list[str]]:
        ((whole, _),) = await self.store.submit([SWEEP], by=ADA, idempotency_key=key)
        page = await self.store.page(Filter(parent_id=whole.operation_id))
        return whole.operation_id, [each.operation_id for each in reversed(page.operations)]

    async def claim(self, operation_id: str) -> Claim | None:
        return await self.leases.claim(operation_id, worker_id="w", lease_s=30)

    async def held(self, operation_id: str) -> Claim:
        claim = await self.claim(operation_id)
        assert claim is not None
        return claim

    async def complete(self, operation_id: str) -> None:
        await self.leases.complete((await self.held(operation_id)).lease, RESULT)

    async def queued(self) -> list[str]:
        async with transaction(self.pool) as connection:
            cursor = await connection.execute(
                "SELECT args ->> 'operation_id' AS id FROM procrastinate_jobs ORDER BY id"
            )
            return sorted(row["id"] for row in await cursor.fetchall())


def at_desk(settings: Settings, story: Any) -> None:
    async def tell() -> None:
        async with make_pool(settings, "test", max_size=8) as pool:
            await story(Desk(pool))

    asyncio.run(tell())


def test_a_sweep_is_written_with_its_parts_and_only_they_are_queued(database: Settings) -> None:
    async def story(desk: Desk) -> None:
        whole, parts = await desk.submitted()
        assert await desk.queued() == sorted(parts)
        assert [(await desk.store.get(each)).parameters["folds"] for each in parts] == [1, 2, 3]
        shown = await desk.store.page(Filter(with_parts=False))
        assert [each.operation_id for each in shown.operations] == [whole]
        assert await desk.claim(whole) is None, "its parts have not ended"

    at_desk(database, story)


def test_the_same_sweep_submitted_many_times_at_once_is_there_once_with_its_parts(
    database: Settings,
) -> None:
    async def story(desk: Desk) -> None:
        found = await asyncio.gather(*(desk.submitted("the same") for _ in range(12)))
        assert {whole for whole, _ in found} == {found[0][0]}
        assert len((await desk.store.page(Filter(parent_id=found[0][0]))).operations) == 3
        assert len(await desk.queued()) == 3

    at_desk(database, story)


def test_the_whole_runs_with_its_first_part_and_is_queued_once_after_its_last(
    database: Settings,
) -> None:
    async def story(desk: Desk) -> None:
        whole, parts = await desk.submitted()
        first = await desk.held(parts[0])
        assert (await desk.store.get(whole)).status is OperationStatus.RUNNING
        await desk.leases.complete(first.lease, RESULT)
        seen = await desk.store.get(whole)
        assert seen.progress_message == "1 of 3 parts done"
        assert seen.progress == pytest.approx(0.95 / 3)
        # The last two end at the same time: exactly one of them may wake a worker.
        claims = [await desk.held(each) for each in parts[1:]]
        await asyncio.gather(*(desk.leases.complete(each.lease, RESULT) for each in claims))
        assert (await desk.queued()).count(whole) == 1
        collected = await desk.held(whole)
        given = await desk.leases.parts(collected.lease)
        assert [each.operation_id for each in given] == parts
        assert all(each.summary == {"sharpe": 1.0} and each.error is None for each in given)

    at_desk(database, story)


def test_a_part_that_fails_counts_as_ended_and_says_why(database: Settings) -> None:
    async def story(desk: Desk) -> None:
        whole, parts = await desk.submitted()
        fault = OperationFault(kind="x", message="no such data")
        await desk.leases.fail((await desk.held(parts[0])).lease, fault)
        await desk.store.cancel(parts[1], by=ADA)
        await desk.complete(parts[2])
        given = await desk.leases.parts((await desk.held(whole)).lease)
        assert [each.error for each in given] == ["no such data", "it is cancelled", None]

    at_desk(database, story)


def test_cancelling_the_whole_cancels_its_parts_and_resuming_it_resumes_them(
    database: Settings,
) -> None:
    async def story(desk: Desk) -> None:
        whole, parts = await desk.submitted()
        await desk.complete(parts[0])
        running = await desk.held(parts[1])
        assert (await desk.store.cancel(whole, by=ADA)).status is OperationStatus.CANCELLED
        assert (await desk.store.get(parts[2])).status is OperationStatus.CANCELLED
        assert (
            await desk.leases.renew(running.lease, lease_s=30, progress=None, message=None)
        ).cancel
        await desk.leases.cancelled(running.lease)
        assert (await desk.store.resume(whole, by=ADA)).status is OperationStatus.PENDING
        assert await desk.claim(whole) is None
        for each in parts[1:]:
            await desk.complete(each)
        assert (await desk.store.get(parts[0])).attempt == 1, "what is done is not done again"
        await desk.held(whole)

    at_desk(database, story)


def test_parts_that_end_and_a_whole_that_is_cancelled_at_once_do_not_wait_in_a_circle(
    database: Settings,
) -> None:
    async def story(desk: Desk) -> None:
        for _ in range(20):
            whole, parts = await desk.submitted()
            claims = [await desk.held(each) for each in parts]
            await asyncio.gather(
                desk.store.cancel(whole, by=ADA),
                *(desk.leases.complete(each.lease, RESULT) for each in claims),
                return_exceptions=True,
            )
            assert (await desk.store.get(whole)).status in ("cancelled", "running")

    at_desk(database, story)


def test_a_whole_whose_wake_up_was_lost_is_found_again(database: Settings) -> None:
    async def story(desk: Desk) -> None:
        whole, parts = await desk.submitted()
        for each in parts:
            await desk.complete(each)
        async with transaction(desk.pool) as connection:
            await connection.execute("DELETE FROM procrastinate_jobs")
            await connection.execute("UPDATE operations SET queued_at = now() - interval '2 min'")
        await desk.leases.reap()
        assert await desk.queued() == [whole]

    at_desk(database, story)


@pytest.fixture
def client(place: Site, backend: Process) -> BackendClient:
    client = place.client(backend)
    with DATA.open("rb") as file:
        client.import_dataset(file, "SP500", "1d")
    return client


def ended(client: BackendClient, operation_id: str) -> Operation:
    wait_for("the end", lambda: client.get_operation(operation_id).status.is_final, 90)
    return client.get_operation(operation_id)


def test_a_sweep_runs_on_two_workers_and_ends_in_one_report(
    place: Site, backend: Process, client: BackendClient
) -> None:
    for _ in range(2):
        place.worker("backtest", backend)
    parameters = {
        "symbol": "SP500",
        "train_bars": 200,
        "folds": 2,
        "strategy_parameters": {"fast": [5, 10, 60], "slow": [20, 50]},
    }
    request = OperationRequest(operation_type=OperationType.SWEEP, parameters=parameters)
    done = ended(client, client.submit(request, idempotency_key="sweep").operation_id)
    assert done.status is OperationStatus.COMPLETED
    parts = client.list_operations(parent_id=done.operation_id).operations
    assert len(parts) == 4, "a fast average that is not faster is left out"
    assert len({each.worker_id for each in parts}) == 2
    results = client.get_results(done.operation_id)
    assert results.summary["parts"] == 4
    assert {"report.html", "results.csv"} <= set(results.files)


def test_a_sweep_over_an_unknown_strategy_or_parameter_is_refused_before_anything_is_written(
    client: BackendClient,
) -> None:
    for parameters, words in (
        ({"strategy": "moving_average_cros"}, "no strategy moving_average_cros"),
        ({"strategy_parameters": {"fats": [1, 2]}}, "fats is no parameter"),
        ({"strategy_parameters": {"fast": [60], "slow": [50]}}, "no combination"),
    ):
        request = OperationRequest(
            operation_type=OperationType.SWEEP, parameters={"symbol": "SP500", **parameters}
        )
        with pytest.raises(InvalidParameters, match=words):
            client.submit(request, idempotency_key=words)
    assert client.list_operations().operations == []
