"""Benchmark of listing, claiming and upkeep with a hundred thousand finished operations.

Two databases of one server are queried alternately: one with two pages of finished operations, and
one with all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from psycopg import sql

from benchmarks.runtime.ground import Ground
from benchmarks.runtime.latency import REQUEST, RESULT
from benchmarks.samples import ROW_TITLES, Goal, Outcome, Samples, ratio
from ktrdr.database.pool import Pool, make_pool
from ktrdr.operations.leases import LeaseBook
from ktrdr.operations.store import Filter, OperationStore
from ktrdr.schemas import OperationStatus
from ktrdr.settings import Settings
from tests.integration.identities import ADA

LIMIT = 1.2
# Two pages, so that the small table also has a page after the first.
FEW = 200
WARM_UP = 20

# One in fifty failed, one in fifty cancelled: operations that people search for are rare.
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
) AS made;
INSERT INTO operation_events (operation_id, kind, status, progress, message)
SELECT operation_id, kind, status, 1, NULL
FROM operations, unnest(ARRAY['submitted', 'started', 'finished']) AS kind;
""")


class Table:
    """A database, with all queries of the measurement."""

    def __init__(self, pool: Pool) -> None:
        self.store, self.leases = OperationStore(pool), LeaseBook(pool)
        self.deep: str | None = None

    async def find_depth(self, pages: int) -> None:
        """Skip ``pages`` pages; the next one is the deep page."""
        for _ in range(pages):
            page = await self.store.page(limit=100 if pages == 1 else 500, cursor=self.deep)
            self.deep = page.next_cursor

    async def first_page(self) -> object:
        return await self.store.page()

    async def failed(self) -> object:
        return await self.store.page(Filter(status=OperationStatus.FAILED), limit=4)

    async def running(self) -> object:
        return await self.store.page(Filter(status=OperationStatus.RUNNING))

    async def deep_page(self) -> object:
        return await self.store.page(cursor=self.deep)

    async def backlog(self) -> object:
        return await self.store.backlog()

    async def reap(self) -> object:
        return await self.leases.reap()

    async def claim(self, operation_id: str) -> object:
        return await self.leases.claim(operation_id, worker_id="w", lease_s=30)


QUESTIONS: dict[str, Callable[[Table], Awaitable[object]]] = {
    "first page": Table.first_page,
    "failed operations": Table.failed,
    "running operations, of which there are none": Table.running,
    "deep page": Table.deep_page,
    "backlog gauges": Table.backlog,
    "one round of the reaper": Table.reap,
}


def measure_table(ground: Ground, operations: int, samples: int) -> Outcome:
    """Send every query to both databases alternately."""
    with ground.database() as small, ground.database() as large:
        for settings, number in ((small, FEW), (large, operations)):
            ground.server.execute(_FILL.format(number=sql.Literal(number)), settings.db_name)
            ground.server.execute(sql.SQL("VACUUM ANALYZE"), settings.db_name)
        found = asyncio.run(_asked(small, large, operations, samples))
    outcome = Outcome(
        f"{operations:,} finished operations against {FEW}",
        ("", *ROW_TITLES, f"p50 ms of {FEW}", "times"),
    )
    for what, (few, many) in found.items():
        times = ratio(many, few)
        outcome.rows.append([what, *many.row, f"{few.percentile(0.5):.1f}", f"{times:.2f}"])
        outcome.goals.append(Goal(f"{what}, full against nearly empty, p50", LIMIT, times, "times"))
    return outcome


async def _asked(
    small: Settings, large: Settings, operations: int, samples: int
) -> dict[str, tuple[Samples, Samples]]:
    async with AsyncExitStack() as stack:
        tables = [
            Table(await stack.enter_async_context(make_pool(settings, "table", max_size=2)))
            for settings in (small, large)
        ]
        await tables[0].find_depth(1)
        await tables[1].find_depth(max(operations * 9 // 10 // 500, 1))
        found = {
            what: await _pair(tables, question, samples) for what, question in QUESTIONS.items()
        }
        found["claim"] = await _claims(tables, samples)
    return found


async def _pair(
    tables: list[Table], question: Callable[[Table], Awaitable[object]], samples: int
) -> tuple[Samples, Samples]:
    taken: list[list[float]] = [[], []]
    for number in range(WARM_UP + samples):
        # The order alternates, so that neither always profits from the caches of the other.
        for index in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter()
            await question(tables[index])
            if number >= WARM_UP:
                taken[index].append(time.perf_counter() - began)
    return Samples(taken[0]), Samples(taken[1])


async def _claims(tables: list[Table], samples: int) -> tuple[Samples, Samples]:
    taken: list[list[float]] = [[], []]
    for number in range(WARM_UP + samples):
        for index in (0, 1) if number % 2 else (1, 0):
            table = tables[index]
            ((operation, _),) = await table.store.submit([REQUEST], by=ADA)
            began = time.perf_counter()
            claim = await table.leases.claim(operation.operation_id, worker_id="w", lease_s=30)
            if number >= WARM_UP:
                taken[index].append(time.perf_counter() - began)
            assert claim is not None
            await table.leases.complete(claim.lease, RESULT)
    return Samples(taken[0]), Samples(taken[1])
