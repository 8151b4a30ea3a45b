"""Cost of a hundred thousand finished operations for listing, claiming and reaping.

Two databases of one server, one with two pages of finished operations and one with all of them, are
queried alternately.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from psycopg import sql

from benchmarks.runtime.environment import BenchmarkEnvironment
from benchmarks.runtime.latency import REQUEST, RESULT
from benchmarks.samples import ROW_TITLES, Goal, Outcome, Samples, ratio
from ktrdr.database.pool import Pool, make_pool
from ktrdr.operations.leases import LeaseStore
from ktrdr.operations.store import OperationFilter, OperationStore
from ktrdr.schemas import OperationStatus
from ktrdr.settings import Settings
from tests.integration.identities import ADA

LIMIT = 1.2
# Two pages, so that the small table has a second page too.
SMALL_SIZE = 200
WARM_UP = 20

# One in fifty failed and one in fifty cancelled: users look for rare operations.
_FILL = sql.SQL("""
INSERT INTO operations (
    operation_id, operation_type, worker_type, status, parameters, submitted_by, lease_epoch,
    attempt, worker_id, progress, created_at, queued_at, started_at, finished_at, error, result)
SELECT format('op_%s_20260101_000000_%s', kind, lpad(to_hex(n), 8, '0')), kind,
    CASE kind WHEN 'backtest' THEN 'backtesting' ELSE 'training' END, status,
    '{{"symbol": "SP500", "folds": 5, "train_bars": 756}}', 'ada',
    1, 1, 'backtesting-b-5003', 1, at, at, at, at + interval '1 min',
    CASE status WHEN 'failed' THEN
        '{{"kind": "x", "message": "it broke", "hint": null}}'::jsonb END,
    CASE status WHEN 'completed' THEN
        '{{"summary": {{}}, "directory": "d", "files": [], "report": "r"}}'::json END
FROM (
    SELECT n, timestamptz '2026-01-01 00:00:00Z' + n * interval '1 min' AS at,
        CASE n % 2 WHEN 0 THEN 'backtest' ELSE 'training' END AS kind,
        CASE n % 50 WHEN 0 THEN 'failed' WHEN 1 THEN 'cancelled' ELSE 'completed' END AS status
    FROM generate_series(1, {number}) AS n
) AS generated;
INSERT INTO operation_events (operation_id, kind, status, progress, message)
SELECT operation_id, kind, status, 1, NULL
FROM operations, unnest(ARRAY['submitted', 'started', 'finished']) AS kind;
""")


class Table:
    """Database with its measured queries."""

    def __init__(self, pool: Pool) -> None:
        self.store, self.leases = OperationStore(pool), LeaseStore(pool)
        self.deep_cursor: str | None = None

    async def find_deep_page(self, pages: int) -> None:
        """Read ``pages`` pages, so that the next one is the deep page."""
        for _ in range(pages):
            page = await self.store.list_page(
                limit=100 if pages == 1 else 500, cursor=self.deep_cursor
            )
            self.deep_cursor = page.next_cursor

    async def list_first_page(self) -> object:
        return await self.store.list_page()

    async def list_failed(self) -> object:
        return await self.store.list_page(OperationFilter(status=OperationStatus.FAILED), limit=4)

    async def list_running(self) -> object:
        return await self.store.list_page(OperationFilter(status=OperationStatus.RUNNING))

    async def list_deep_page(self) -> object:
        return await self.store.list_page(cursor=self.deep_cursor)

    async def count_unfinished(self) -> object:
        return await self.store.count_unfinished()

    async def reap(self) -> object:
        return await self.leases.reap()

    async def claim(self, operation_id: str) -> object:
        return await self.leases.claim(operation_id, worker_id="w", lease_s=30)


QUERIES: dict[str, Callable[[Table], Awaitable[object]]] = {
    "first page": Table.list_first_page,
    "failed operations": Table.list_failed,
    "running operations, of which there are none": Table.list_running,
    "deep page": Table.list_deep_page,
    "count of unfinished operations": Table.count_unfinished,
    "one round of the reaper": Table.reap,
}


def compare_tables(env: BenchmarkEnvironment, operations: int, samples: int) -> Outcome:
    """Measure every query on both tables alternately."""
    with env.database() as small, env.database() as large:
        for settings, number in ((small, SMALL_SIZE), (large, operations)):
            env.server.execute(_FILL.format(number=sql.Literal(number)), settings.db_name)
            env.server.execute(sql.SQL("VACUUM ANALYZE"), settings.db_name)
        results = asyncio.run(_measure_all(small, large, operations, samples))
    outcome = Outcome(
        f"{operations:,} finished operations against {SMALL_SIZE}",
        ("", *ROW_TITLES, f"p50 ms of {SMALL_SIZE}", "times"),
    )
    for query, (few, many) in results.items():
        times = ratio(many, few)
        outcome.rows.append([query, *many.row, f"{few.percentile(0.5):.1f}", f"{times:.2f}"])
        outcome.goals.append(
            Goal(f"{query}, full against nearly empty, p50", LIMIT, times, "times")
        )
    return outcome


async def _measure_all(
    small: Settings, large: Settings, operations: int, samples: int
) -> dict[str, tuple[Samples, Samples]]:
    async with AsyncExitStack() as stack:
        tables = [
            Table(await stack.enter_async_context(make_pool(settings, "table", max_size=2)))
            for settings in (small, large)
        ]
        await tables[0].find_deep_page(1)
        await tables[1].find_deep_page(max(operations * 9 // 10 // 500, 1))
        results = {
            name: await _measure_query(tables, query, samples) for name, query in QUERIES.items()
        }
        results["claim"] = await _measure_claims(tables, samples)
    return results


async def _measure_query(
    tables: list[Table], query: Callable[[Table], Awaitable[object]], samples: int
) -> tuple[Samples, Samples]:
    durations: list[list[float]] = [[], []]
    for number in range(WARM_UP + samples):
        # The order alternates, so that neither always finds the caches of the other.
        for index in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            await query(tables[index])
            if number >= WARM_UP:
                durations[index].append(time.perf_counter() - start)
    return Samples(durations[0]), Samples(durations[1])


async def _measure_claims(tables: list[Table], samples: int) -> tuple[Samples, Samples]:
    durations: list[list[float]] = [[], []]
    for number in range(WARM_UP + samples):
        for index in (0, 1) if number % 2 else (1, 0):
            table = tables[index]
            ((operation, _),) = await table.store.submit([REQUEST], by=ADA)
            start = time.perf_counter()
            claim = await table.leases.claim(operation.operation_id, worker_id="w", lease_s=30)
            if number >= WARM_UP:
                durations[index].append(time.perf_counter() - start)
            assert claim is not None
            await table.leases.complete(claim.lease, RESULT)
    return Samples(durations[0]), Samples(durations[1])
