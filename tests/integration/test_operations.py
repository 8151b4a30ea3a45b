"""Operations on a real PostgreSQL: submitted once, leased to one, finished once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from psycopg import sql

from ktrdr.database.migrate import migrate, migrations
from ktrdr.database.pool import Pool, make_pool, transaction
from ktrdr.errors import Conflict, InvalidParameters, NotFound, UsageError
from ktrdr.operations.leases import LeaseBook, LeaseLost
from ktrdr.operations.model import Claim
from ktrdr.operations.settlement import PATIENCE, Setback
from ktrdr.operations.store import OperationStore
from ktrdr.schemas import OperationFault, OperationRequest, OperationStatus, OperationType
from ktrdr.settings import Settings
from tests.integration.identities import ADA
from tests.integration.postgres import Server

BACKTEST = OperationRequest(
    operation_type=OperationType.BACKTEST, parameters={"symbol": "SP500", "folds": 3}
)


class Bench:
    """A store and a lease book on one pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.store = OperationStore(pool)
        self.leases = LeaseBook(pool)

    async def submitted(self, key: str | None = None) -> str:
        ((operation, _),) = await self.store.submit([BACKTEST], by=ADA, idempotency_key=key)
        return operation.operation_id

    async def claimed(
        self, operation_id: str, worker: str = "w1", lease_s: float = 30
    ) -> Claim | None:
        return await self.leases.claim(operation_id, worker_id=worker, lease_s=lease_s)

    async def held(self, operation_id: str, worker: str = "w1", lease_s: float = 30) -> Claim:
        claim = await self.claimed(operation_id, worker, lease_s)
        assert claim is not None
        return claim

    async def count(self, table: str) -> int:
        async with transaction(self.pool) as connection:
            cursor = await connection.execute(f"SELECT count(*) AS n FROM {table}")
            row = await cursor.fetchone()
        assert row is not None
        return int(row["n"])

    async def let_lease_run_out(self, operation_id: str) -> None:
        async with transaction(self.pool) as connection:
            await connection.execute(
                "UPDATE operations SET lease_until = now() - interval '1 s'"
                " WHERE operation_id = %s",
                (operation_id,),
            )

    async def let_pause_end(self, operation_id: str) -> None:
        async with transaction(self.pool) as connection:
            await connection.execute(
                "UPDATE operations SET not_before = NULL WHERE operation_id = %s", (operation_id,)
            )


@asynccontextmanager
async def bench_on(settings: Settings) -> AsyncIterator[Bench]:
    async with make_pool(settings, "test", max_size=8) as pool:
        yield Bench(pool)


def scenario(settings: Settings, story: Callable[[Bench], Awaitable[None]]) -> None:
    async def tell() -> None:
        async with bench_on(settings) as bench:
            await story(bench)

    asyncio.run(tell())


def test_forty_equal_submits_at_once_make_one_operation_and_one_queue_entry(
    database: Settings,
) -> None:
    async def story(bench: Bench) -> None:
        ids = await asyncio.gather(*(bench.submitted("the same") for _ in range(40)))
        assert len(set(ids)) == 1
        assert await bench.count("operations") == 1
        assert await bench.count("procrastinate_jobs") == 1

    scenario(database, story)


def test_an_idempotency_key_is_not_taken_for_a_different_request(database: Settings) -> None:
    async def story(bench: Bench) -> None:
        await bench.submitted("k")
        other = OperationRequest(
            operation_type=OperationType.BACKTEST, parameters={"symbol": "NASDAQ"}
        )
        with pytest.raises(Conflict, match="other parameters"):
            await bench.store.submit([other], by=ADA, idempotency_key="k")

    scenario(database, story)


def test_of_several_operations_none_is_written_when_one_key_is_taken(database: Settings) -> None:
    async def story(bench: Bench) -> None:
        other = BACKTEST.model_copy(update={"parameters": {"symbol": "NASDAQ"}})
        await bench.store.submit([BACKTEST, BACKTEST], by=ADA, idempotency_key="k")
        with pytest.raises(Conflict, match="other parameters"):
            await bench.store.submit([BACKTEST, other, BACKTEST], by=ADA, idempotency_key="k")
        for table in ("operations", "procrastinate_jobs", "operation_events"):
            assert await bench.count(table) == 2, table
        assert await bench.count("audit") == 1

    scenario(database, story)


def test_parameters_that_do_not_fit_are_named_all_at_once_and_nothing_is_written(
    database: Settings,
) -> None:
    async def story(bench: Bench) -> None:
        bad = OperationRequest(
            operation_type=OperationType.BACKTEST, parameters={"folds": 0, "cost": 1}
        )
        with pytest.raises(InvalidParameters) as caught:
            await bench.store.submit([bad], by=ADA)
        assert all(name in caught.value.message for name in ("symbol", "folds", "cost"))
        assert await bench.count("operations") == 0

    scenario(database, story)


def test_only_one_of_many_workers_gets_the_lease(database: Settings) -> None:
    async def story(bench: Bench) -> None:
        operation_id = await bench.submitted()
        claims = await asyncio.gather(*(bench.claimed(operation_id, f"w{n}") for n in range(8)))
        assert sum(claim is not None for claim in claims) == 1

    scenario(database, story)


def test_a_worker_that_comes_back_after_its_lease_ran_out_can_write_nothing(
    database: Settings,
) -> None:
    async def story(bench: Bench) -> None:
        operation_id = await bench.submitted()
        old = (await bench.held(operation_id, "paused")).lease
        await bench.let_lease_run_out(operation_id)
        new = (await bench.held(operation_id, "fresh")).lease
        for write in (
            bench.leases.renew(old, lease_s=30, progress=0.9, message="zombie"),
            bench.leases.checkpoint(old, step=9, state={}, directory=None),
            bench.leases.complete(old, {"summary": {"zombie": 1}}),
            bench.leases.fail(old, OperationFault(kind="x", message="zombie")),
            bench.leases.hand_back(old),
        ):
            with pytest.raises(LeaseLost):
                await write
        await bench.leases.complete(
            new, {"summary": {}, "directory": "d", "files": [], "report": "r"}
        )
        operation = await bench.store.get(operation_id)
        assert operation.status is OperationStatus.COMPLETED
        assert operation.worker_id == "fresh"
        assert (await bench.store.results(operation_id)).summary == {}

    scenario(database, story)


def test_the_reaper_fences_a_silent_worker_before_anyone_claims_again(database: Settings) -> None:
    async def story(bench: Bench) -> None:
        operation_id = await bench.submitted()
        old = (await bench.held(operation_id)).lease
        await bench.let_lease_run_out(operation_id)
        assert await bench.leases.reap() == [operation_id]
        assert (await bench.store.get(operation_id)).status is OperationStatus.PENDING
        with pytest.raises(LeaseLost):
            await bench.leases.renew(old, lease_s=30, progress=None, message=None)

    scenario(database, story)


def test_an_operation_that_outlives_its_workers_again_and_again_fails_with_a_reason(
    database: Settings,
) -> None:
    async def story(bench: Bench) -> None:
        operation_id = await bench.submitted()
        for attempt in range(PATIENCE[OperationType.BACKTEST][Setback.LOST_LEASE].limit):
            await bench.let_pause_end(operation_id)
            await bench.held(operation_id, f"w{attempt}")
            await bench.let_lease_run_out(operation_id)
            await bench.leases.reap()
        operation = await bench.store.get(operation_id)
        assert operation.status is OperationStatus.FAILED
        assert operation.error is not None
        assert "w4" in operation.error.message

    scenario(database, story)


def test_a_checkpoint_never_goes_back(database: Settings) -> None:
    async def story(bench: Bench) -> None:
        operation_id = await bench.submitted()
        lease = (await bench.held(operation_id)).lease
        await bench.leases.checkpoint(lease, step=2, state={"n": 2}, directory=None)
        with pytest.raises(LeaseLost):
            await bench.leases.checkpoint(lease, step=1, state={"n": 1}, directory=None)
        found = await bench.leases.last_checkpoint(lease)
        assert found is not None
        assert (found[0].step, found[0].state) == (2, {"n": 2})

    scenario(database, story)


def test_cancelling_ends_a_pending_operation_at_once_and_asks_the_worker_of_a_running_one(
    database: Settings,
) -> None:
    async def story(bench: Bench) -> None:
        pending = await bench.submitted()
        assert (await bench.store.cancel(pending, by=ADA)).status is OperationStatus.CANCELLED
        assert await bench.claimed(pending) is None
        running = await bench.submitted()
        lease = (await bench.held(running)).lease
        assert (await bench.store.cancel(running, by=ADA)).status is OperationStatus.RUNNING
        assert (await bench.leases.renew(lease, lease_s=30, progress=None, message=None)).cancel
        await bench.leases.cancelled(lease)
        with pytest.raises(Conflict, match="cancelled already"):
            await bench.store.cancel(running, by=ADA)

    scenario(database, story)


def test_what_was_to_be_cancelled_is_cancelled_when_its_worker_makes_way_first(
    database: Settings,
) -> None:
    async def story(bench: Bench) -> None:
        operation_id = await bench.submitted()
        lease = (await bench.held(operation_id)).lease
        await bench.store.cancel(operation_id, by=ADA)
        await bench.leases.hand_back(lease)
        operation = await bench.store.get(operation_id)
        assert operation.status is OperationStatus.CANCELLED
        assert operation.finished_at
        assert (await bench.store.events(operation_id))[-1].kind == "finished"

    scenario(database, story)


def test_a_failed_operation_can_be_resumed_and_keeps_its_checkpoint(database: Settings) -> None:
    async def story(bench: Bench) -> None:
        operation_id = await bench.submitted()
        lease = (await bench.held(operation_id)).lease
        await bench.leases.checkpoint(lease, step=1, state={"at": 1}, directory=None)
        await bench.leases.fail(lease, OperationFault(kind="x", message="disk full"))
        with pytest.raises(Conflict, match="failed and has no results"):
            await bench.store.results(operation_id)
        assert (await bench.store.resume(operation_id, by=ADA)).status is OperationStatus.PENDING
        again = await bench.held(operation_id)
        found = await bench.leases.last_checkpoint(again.lease)
        assert found is not None
        assert found[0].state == {"at": 1}
        assert again.attempt == 2

    scenario(database, story)


def test_pages_go_newest_first_and_meet_neither_twice_nor_never(database: Settings) -> None:
    async def story(bench: Bench) -> None:
        submitted = [await bench.submitted() for _ in range(7)]
        seen: list[str] = []
        cursor = None
        while True:
            page = await bench.store.page(limit=3, cursor=cursor)
            seen += [operation.operation_id for operation in page.operations]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == submitted[::-1]
        with pytest.raises(UsageError, match="cursor"):
            await bench.store.page(cursor="bm9uc2Vuc2U=")

    scenario(database, story)


def test_events_tell_an_operations_life_in_order(database: Settings) -> None:
    async def story(bench: Bench) -> None:
        operation_id = await bench.submitted()
        lease = (await bench.held(operation_id)).lease
        await bench.leases.hand_back(lease)
        again = (await bench.held(operation_id, "w2")).lease
        await bench.leases.complete(
            again, {"summary": {}, "directory": "d", "files": [], "report": "r"}
        )
        events = await bench.store.events(operation_id)
        kinds = [event.kind for event in events]
        assert kinds == ["submitted", "started", "requeued", "started", "finished"]
        assert await bench.store.events(operation_id, after=events[3].event_id) == events[4:]

    scenario(database, story)


def test_an_operation_without_a_queue_entry_is_found_and_queued_again(database: Settings) -> None:
    async def story(bench: Bench) -> None:
        operation_id = await bench.submitted()
        async with transaction(bench.pool) as connection:
            await connection.execute("DELETE FROM procrastinate_jobs")
            await connection.execute("UPDATE operations SET queued_at = now() - interval '2 min'")
        await bench.leases.reap()
        await bench.leases.reap()
        assert await bench.count("procrastinate_jobs") == 1
        assert (await bench.store.get(operation_id)).status is OperationStatus.PENDING

    scenario(database, story)


def test_an_unknown_operation_is_not_found(database: Settings) -> None:
    async def story(bench: Bench) -> None:
        with pytest.raises(NotFound, match="op_backtest_x"):
            await bench.store.get("op_backtest_x")

    scenario(database, story)


def test_migrations_run_once_when_several_backends_start_together(
    empty_database: Settings,
) -> None:
    async def story() -> None:
        applied = await asyncio.gather(*(migrate(empty_database) for _ in range(5)))
        assert sorted(map(len, applied)) == [0, 0, 0, 0, len(migrations("pre"))]

    asyncio.run(story())


def test_what_was_prepared_before_a_migration_is_right_after_it(
    postgres: Server, database: Settings
) -> None:
    async def story() -> None:
        async with make_pool(database, "test", max_size=1) as pool:
            bench = Bench(pool)
            # From elsewhere: a connection that changes a table itself forgets what it has prepared.
            for change in ("ADD COLUMN later text NOT NULL DEFAULT 'x'", "DROP COLUMN later"):
                assert (await bench.held(await bench.submitted())).attempt == 1
                statement = sql.SQL("ALTER TABLE operations " + change)
                await asyncio.to_thread(postgres.execute, statement, database.db_name)
            assert (await bench.held(await bench.submitted())).attempt == 1
            assert await migrate(database, ("post",))
            assert (await bench.held(await bench.submitted())).attempt == 1
            assert await bench.count("procrastinate_jobs") == 4

    asyncio.run(story())


def test_connections_that_the_database_has_ended_are_not_handed_out(
    postgres: Server, database: Settings
) -> None:
    ended = sql.SQL(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = {}"
    ).format(sql.Literal(database.db_name))

    async def story(bench: Bench) -> None:
        async def used() -> None:
            async with transaction(bench.pool) as connection:
                await connection.execute("SELECT pg_sleep(0.1)")

        while bench.pool.get_stats()["pool_size"] < bench.pool.max_size:
            await asyncio.gather(*(used() for _ in range(bench.pool.max_size)))
        await asyncio.to_thread(postgres.execute, ended)
        await bench.submitted()

    scenario(database, story)


def test_what_was_begun_goes_before_what_is_new(database: Settings) -> None:
    async def story(bench: Bench) -> None:
        begun = await bench.submitted()
        await bench.leases.hand_back((await bench.held(begun)).lease)
        new = await bench.submitted()
        async with transaction(bench.pool) as connection:
            cursor = await connection.execute(
                "SELECT args ->> 'operation_id' AS name, priority FROM procrastinate_jobs"
                " WHERE status = 'todo' ORDER BY priority DESC, id"
            )
            entries = [(row["name"], row["priority"]) for row in await cursor.fetchall()]
        # The entry of its first attempt is still there; here no worker has taken it.
        assert entries == [(begun, 1), (begun, 0), (new, 0)]

    scenario(database, story)
