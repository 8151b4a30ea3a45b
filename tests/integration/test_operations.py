"""Operations on a real PostgreSQL: submission, leases, retries, migrations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from psycopg import sql

from ktrdr.database.migrate import load_migrations, migrate
from ktrdr.database.pool import Pool, make_pool, transaction
from ktrdr.errors import Conflict, InvalidParameters, NotFound, UsageError
from ktrdr.operations.leases import LeaseLost, LeaseStore
from ktrdr.operations.model import Claim
from ktrdr.operations.retry import RETRY_POLICIES, FailureKind
from ktrdr.operations.store import OperationStore
from ktrdr.schemas import ErrorDetail, OperationRequest, OperationStatus, OperationType
from ktrdr.settings import Settings
from tests.integration.identities import ADA
from tests.integration.postgres import PostgresServer

BACKTEST = OperationRequest(
    operation_type=OperationType.BACKTEST, parameters={"symbol": "SP500", "folds": 3}
)


class Operations:
    """Operation store and lease store on one pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.store = OperationStore(pool)
        self.leases = LeaseStore(pool)

    async def submit(self, key: str | None = None) -> str:
        ((operation, _),) = await self.store.submit([BACKTEST], by=ADA, idempotency_key=key)
        return operation.operation_id

    async def try_claim(
        self, operation_id: str, worker: str = "w1", lease_s: float = 30
    ) -> Claim | None:
        return await self.leases.claim(operation_id, worker_id=worker, lease_s=lease_s)

    async def claim(self, operation_id: str, worker: str = "w1", lease_s: float = 30) -> Claim:
        claim = await self.try_claim(operation_id, worker, lease_s)
        assert claim is not None
        return claim

    async def count(self, table: str) -> int:
        async with transaction(self.pool) as connection:
            cursor = await connection.execute(f"SELECT count(*) AS n FROM {table}")
            row = await cursor.fetchone()
        assert row is not None
        return int(row["n"])

    async def expire_lease(self, operation_id: str) -> None:
        async with transaction(self.pool) as connection:
            await connection.execute(
                "UPDATE operations SET lease_until = now() - interval '1 s'"
                " WHERE operation_id = %s",
                (operation_id,),
            )

    async def end_retry_delay(self, operation_id: str) -> None:
        async with transaction(self.pool) as connection:
            await connection.execute(
                "UPDATE operations SET not_before = NULL WHERE operation_id = %s", (operation_id,)
            )


@asynccontextmanager
async def open_operations(settings: Settings) -> AsyncIterator[Operations]:
    async with make_pool(settings, "test", max_size=8) as pool:
        yield Operations(pool)


def run_scenario(settings: Settings, scenario: Callable[[Operations], Awaitable[None]]) -> None:
    async def run() -> None:
        async with open_operations(settings) as operations:
            await scenario(operations)

    asyncio.run(run())


def test_forty_simultaneous_submissions_with_one_key_create_one_operation_and_one_queue_entry(
    database: Settings,
) -> None:
    async def scenario(operations: Operations) -> None:
        ids = await asyncio.gather(*(operations.submit("the same") for _ in range(40)))
        assert len(set(ids)) == 1
        assert await operations.count("operations") == 1
        assert await operations.count("procrastinate_jobs") == 1

    run_scenario(database, scenario)


def test_an_idempotency_key_is_rejected_for_a_different_request(database: Settings) -> None:
    async def scenario(operations: Operations) -> None:
        await operations.submit("k")
        other = OperationRequest(
            operation_type=OperationType.BACKTEST, parameters={"symbol": "NASDAQ"}
        )
        with pytest.raises(Conflict, match="other parameters"):
            await operations.store.submit([other], by=ADA, idempotency_key="k")

    run_scenario(database, scenario)


def test_no_operation_of_a_batch_is_inserted_when_one_key_was_used(database: Settings) -> None:
    async def scenario(operations: Operations) -> None:
        other = BACKTEST.model_copy(update={"parameters": {"symbol": "NASDAQ"}})
        await operations.store.submit([BACKTEST, BACKTEST], by=ADA, idempotency_key="k")
        with pytest.raises(Conflict, match="other parameters"):
            await operations.store.submit([BACKTEST, other, BACKTEST], by=ADA, idempotency_key="k")
        for table in ("operations", "procrastinate_jobs", "operation_events"):
            assert await operations.count(table) == 2, table
        assert await operations.count("audit") == 1

    run_scenario(database, scenario)


def test_all_invalid_parameters_are_named_and_nothing_is_inserted(
    database: Settings,
) -> None:
    async def scenario(operations: Operations) -> None:
        bad = OperationRequest(
            operation_type=OperationType.BACKTEST, parameters={"folds": 0, "cost": 1}
        )
        with pytest.raises(InvalidParameters) as caught:
            await operations.store.submit([bad], by=ADA)
        assert all(name in caught.value.message for name in ("symbol", "folds", "cost"))
        assert await operations.count("operations") == 0

    run_scenario(database, scenario)


def test_only_one_of_many_workers_gets_the_lease(database: Settings) -> None:
    async def scenario(operations: Operations) -> None:
        operation_id = await operations.submit()
        claims = await asyncio.gather(
            *(operations.try_claim(operation_id, f"w{n}") for n in range(8))
        )
        assert sum(claim is not None for claim in claims) == 1

    run_scenario(database, scenario)


def test_every_write_under_an_expired_and_replaced_lease_is_rejected(
    database: Settings,
) -> None:
    async def scenario(operations: Operations) -> None:
        operation_id = await operations.submit()
        old = (await operations.claim(operation_id, "paused")).lease
        await operations.expire_lease(operation_id)
        new = (await operations.claim(operation_id, "fresh")).lease
        for write in (
            operations.leases.renew(old, lease_s=30, progress=0.9, message="zombie"),
            operations.leases.save_checkpoint(old, step=9, state={}, directory=None),
            operations.leases.complete(old, {"summary": {"zombie": 1}}),
            operations.leases.fail(old, ErrorDetail(kind="x", message="zombie")),
            operations.leases.requeue(old),
        ):
            with pytest.raises(LeaseLost):
                await write
        await operations.leases.complete(
            new, {"summary": {}, "directory": "d", "files": [], "report": "r"}
        )
        operation = await operations.store.get(operation_id)
        assert operation.status is OperationStatus.COMPLETED
        assert operation.worker_id == "fresh"
        assert (await operations.store.get_results(operation_id)).summary == {}

    run_scenario(database, scenario)


def test_the_reaper_fences_a_silent_worker_before_the_next_claim(database: Settings) -> None:
    async def scenario(operations: Operations) -> None:
        operation_id = await operations.submit()
        old = (await operations.claim(operation_id)).lease
        await operations.expire_lease(operation_id)
        assert await operations.leases.reap() == [operation_id]
        assert (await operations.store.get(operation_id)).status is OperationStatus.PENDING
        with pytest.raises(LeaseLost):
            await operations.leases.renew(old, lease_s=30, progress=None, message=None)

    run_scenario(database, scenario)


def test_an_operation_that_loses_too_many_workers_fails_with_a_reason(
    database: Settings,
) -> None:
    async def scenario(operations: Operations) -> None:
        operation_id = await operations.submit()
        for attempt in range(
            RETRY_POLICIES[OperationType.BACKTEST][FailureKind.LOST_LEASE].max_failures
        ):
            await operations.end_retry_delay(operation_id)
            await operations.claim(operation_id, f"w{attempt}")
            await operations.expire_lease(operation_id)
            await operations.leases.reap()
        operation = await operations.store.get(operation_id)
        assert operation.status is OperationStatus.FAILED
        assert operation.error is not None
        assert "w4" in operation.error.message

    run_scenario(database, scenario)


def test_a_checkpoint_never_goes_back(database: Settings) -> None:
    async def scenario(operations: Operations) -> None:
        operation_id = await operations.submit()
        lease = (await operations.claim(operation_id)).lease
        await operations.leases.save_checkpoint(lease, step=2, state={"n": 2}, directory=None)
        with pytest.raises(LeaseLost):
            await operations.leases.save_checkpoint(lease, step=1, state={"n": 1}, directory=None)
        stored = await operations.leases.get_checkpoint(lease)
        assert stored is not None
        assert (stored[0].step, stored[0].state) == (2, {"n": 2})

    run_scenario(database, scenario)


def test_a_pending_operation_is_cancelled_immediately_and_a_running_one_by_its_worker(
    database: Settings,
) -> None:
    async def scenario(operations: Operations) -> None:
        pending = await operations.submit()
        assert (await operations.store.cancel(pending, by=ADA)).status is OperationStatus.CANCELLED
        assert await operations.try_claim(pending) is None
        running = await operations.submit()
        lease = (await operations.claim(running)).lease
        assert (await operations.store.cancel(running, by=ADA)).status is OperationStatus.RUNNING
        assert (
            await operations.leases.renew(lease, lease_s=30, progress=None, message=None)
        ).is_cancel_requested
        await operations.leases.mark_cancelled(lease)
        with pytest.raises(Conflict, match="already has the status cancelled"):
            await operations.store.cancel(running, by=ADA)

    run_scenario(database, scenario)


def test_an_operation_with_a_cancel_request_is_cancelled_instead_of_requeued(
    database: Settings,
) -> None:
    async def scenario(operations: Operations) -> None:
        operation_id = await operations.submit()
        lease = (await operations.claim(operation_id)).lease
        await operations.store.cancel(operation_id, by=ADA)
        await operations.leases.requeue(lease)
        operation = await operations.store.get(operation_id)
        assert operation.status is OperationStatus.CANCELLED
        assert operation.finished_at
        assert (await operations.store.list_events(operation_id))[-1].kind == "finished"

    run_scenario(database, scenario)


def test_a_resumed_operation_keeps_its_checkpoint(database: Settings) -> None:
    async def scenario(operations: Operations) -> None:
        operation_id = await operations.submit()
        lease = (await operations.claim(operation_id)).lease
        await operations.leases.save_checkpoint(lease, step=1, state={"at": 1}, directory=None)
        await operations.leases.fail(lease, ErrorDetail(kind="x", message="disk full"))
        with pytest.raises(Conflict, match=r"has no results \(status: failed"):
            await operations.store.get_results(operation_id)
        assert (
            await operations.store.resume(operation_id, by=ADA)
        ).status is OperationStatus.PENDING
        again = await operations.claim(operation_id)
        stored = await operations.leases.get_checkpoint(again.lease)
        assert stored is not None
        assert stored[0].state == {"at": 1}
        assert again.attempt == 2

    run_scenario(database, scenario)


def test_pages_list_every_operation_once_newest_first(database: Settings) -> None:
    async def scenario(operations: Operations) -> None:
        submitted = [await operations.submit() for _ in range(7)]
        seen: list[str] = []
        cursor = None
        while True:
            page = await operations.store.list_page(limit=3, cursor=cursor)
            seen += [operation.operation_id for operation in page.operations]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == submitted[::-1]
        with pytest.raises(UsageError, match="cursor"):
            await operations.store.list_page(cursor="bm9uc2Vuc2U=")

    run_scenario(database, scenario)


def test_events_are_listed_in_order(database: Settings) -> None:
    async def scenario(operations: Operations) -> None:
        operation_id = await operations.submit()
        lease = (await operations.claim(operation_id)).lease
        await operations.leases.requeue(lease)
        again = (await operations.claim(operation_id, "w2")).lease
        await operations.leases.complete(
            again, {"summary": {}, "directory": "d", "files": [], "report": "r"}
        )
        events = await operations.store.list_events(operation_id)
        kinds = [event.kind for event in events]
        assert kinds == ["submitted", "started", "requeued", "started", "finished"]
        assert (
            await operations.store.list_events(operation_id, after=events[3].event_id) == events[4:]
        )

    run_scenario(database, scenario)


def test_the_reaper_queues_an_operation_without_a_queue_entry(database: Settings) -> None:
    async def scenario(operations: Operations) -> None:
        operation_id = await operations.submit()
        async with transaction(operations.pool) as connection:
            await connection.execute("DELETE FROM procrastinate_jobs")
            await connection.execute("UPDATE operations SET queued_at = now() - interval '2 min'")
        await operations.leases.reap()
        await operations.leases.reap()
        assert await operations.count("procrastinate_jobs") == 1
        assert (await operations.store.get(operation_id)).status is OperationStatus.PENDING

    run_scenario(database, scenario)


def test_an_unknown_operation_is_not_found(database: Settings) -> None:
    async def scenario(operations: Operations) -> None:
        with pytest.raises(NotFound, match="op_backtest_x"):
            await operations.store.get("op_backtest_x")

    run_scenario(database, scenario)


def test_migrations_run_once_when_several_backends_start_simultaneously(
    empty_database: Settings,
) -> None:
    async def scenario() -> None:
        applied = await asyncio.gather(*(migrate(empty_database) for _ in range(5)))
        assert sorted(map(len, applied)) == [0, 0, 0, 0, len(load_migrations("pre"))]

    asyncio.run(scenario())


def test_prepared_statements_outlive_migrations(
    postgres: PostgresServer, database: Settings
) -> None:
    async def scenario() -> None:
        async with make_pool(database, "test", max_size=1) as pool:
            operations = Operations(pool)
            # Another connection alters the table, because its own would forget what it prepared.
            for change in ("ADD COLUMN later text NOT NULL DEFAULT 'x'", "DROP COLUMN later"):
                assert (await operations.claim(await operations.submit())).attempt == 1
                statement = sql.SQL("ALTER TABLE operations " + change)
                await asyncio.to_thread(postgres.execute, statement, database.db_name)
            assert (await operations.claim(await operations.submit())).attempt == 1
            assert await migrate(database, ("post",))
            assert (await operations.claim(await operations.submit())).attempt == 1
            assert await operations.count("procrastinate_jobs") == 4

    asyncio.run(scenario())


def test_terminated_connections_are_not_used_again(
    postgres: PostgresServer, database: Settings
) -> None:
    ended = sql.SQL(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = {}"
    ).format(sql.Literal(database.db_name))

    async def scenario(operations: Operations) -> None:
        async def use_connection() -> None:
            async with transaction(operations.pool) as connection:
                await connection.execute("SELECT pg_sleep(0.1)")

        while operations.pool.get_stats()["pool_size"] < operations.pool.max_size:
            await asyncio.gather(*(use_connection() for _ in range(operations.pool.max_size)))
        await asyncio.to_thread(postgres.execute, ended)
        await operations.submit()

    run_scenario(database, scenario)


def test_a_started_operation_is_queued_before_new_ones(database: Settings) -> None:
    async def scenario(operations: Operations) -> None:
        started = await operations.submit()
        await operations.leases.requeue((await operations.claim(started)).lease)
        new = await operations.submit()
        async with transaction(operations.pool) as connection:
            cursor = await connection.execute(
                "SELECT args ->> 'operation_id' AS name, priority FROM procrastinate_jobs"
                " WHERE status = 'todo' ORDER BY priority DESC, id"
            )
            entries = [(row["name"], row["priority"]) for row in await cursor.fetchall()]
        # The entry of its first attempt remains, because no worker has taken it here.
        assert entries == [(started, 1), (started, 0), (new, 0)]

    run_scenario(database, scenario)
