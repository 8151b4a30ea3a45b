"""Queue that wakes workers: procrastinate, in the same database as the operations.

The queue decides nothing. An entry says "try to claim this operation"; the claim decides whether a
worker may run it (see `leases`). So a superfluous entry is harmless, and the reaper adds a missing
one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any, Final, LiteralString

from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.tasks import configure_task
from procrastinate.types import JSONDict

from ktrdr.database.pool import Connection, Pool, autocommit
from ktrdr.database.queries import Row
from ktrdr.operations.queries import QUERIES
from ktrdr.schemas import WorkerType

RUN_TASK: Final = "ktrdr.run"
TICK_TASK: Final = "ktrdr.tick"
TICK_QUEUE: Final = "tick"
# Grows whenever operations get parameters that workers of the previous release cannot read. Those
# workers do not serve the new queue, so during a deploy such operations wait for newer workers.
WORK_VERSION: Final = 2

RunOperation = Callable[[str], Awaitable[None]]


def queue_name(worker_type: str, version: int = WORK_VERSION) -> str:
    """Return the queue of a worker type for operations of one version."""
    return worker_type if version == 1 else f"{worker_type}.{version}"


async def enqueue(connection: Connection, app: App, operations: Iterable[Row]) -> None:
    """Add queue entries within the transaction that is open on ``connection``.

    Args:
        connection: Connection whose transaction has just written the operations.
        app: Queue.
        operations: Rows of the operations. The entry of a delayed operation becomes visible when
            its delay ends.
    """
    groups: dict[tuple[str, datetime | None, int], list[JSONDict]] = defaultdict(list)
    for row in operations:
        # A started operation is finished before a new one starts.
        priority = int(row["attempt"] > 0 or row["started_at"] is not None)
        key = (row["worker_type"], row["not_before"], priority)
        groups[key].append({"operation_id": row["operation_id"]})
    for (worker_type, not_before, priority), entries in groups.items():
        deferrer = configure_task(
            name=RUN_TASK,
            job_manager=app.job_manager,
            queue=queue_name(worker_type),
            schedule_at=not_before,
            priority=priority,
            connection=connection,
        )
        await deferrer.batch_defer_async(*entries)


def make_enqueuing_app() -> App:
    """Return an app that only adds entries, on the caller's own connection."""
    return App(connector=PsycopgConnector())


class _PollingConnector(PsycopgConnector):
    """Connector that reports each successful poll of the queue."""

    def __init__(self, polled: Callable[[], None]) -> None:
        super().__init__()
        self._polled = polled

    async def execute_query_one_async(
        self, query: LiteralString, **arguments: Any
    ) -> dict[str, Any]:
        row: dict[str, Any] = await super().execute_query_one_async(query, **arguments)
        self._polled()
        return row


def make_worker_app(
    pool: Pool, run: RunOperation, polled: Callable[[], None] = lambda: None
) -> App:
    """Return an app that runs operations, and calls ``polled`` whenever it has asked for one.

    Without a periodic task procrastinate's side tasks end immediately, and a worker then receives
    no notifications after a restart of the database. The tick is that task. It also keeps the
    queue's table small.
    """
    app = App(connector=_PollingConnector(polled))

    async def run_operation(operation_id: str) -> None:
        await run(operation_id)

    async def tick(_context: JobContext, timestamp: int) -> None:  # noqa: ARG001  # its signature
        async with autocommit(pool) as connection:
            await QUERIES.execute(connection, "purge_queue")

    app.task(name=RUN_TASK)(run_operation)
    app.periodic(cron="* * * * *")(
        app.task(name=TICK_TASK, queue=TICK_QUEUE, queueing_lock=TICK_TASK, pass_context=True)(tick)
    )
    return app


async def serve_queue(
    app: App, pool: Pool, *, worker_id: str, worker_type: WorkerType, grace_s: float
) -> None:
    """Process the worker's queue entries, one at a time, until cancelled.

    Delayed entries send no notification, so the table is polled every second as well.
    """
    shared = [queue_name(worker_type.value, version) for version in range(1, WORK_VERSION + 1)]
    async with app.open_async(pool):
        await app.run_worker_async(
            # An entry in the worker's own queue reaches no other worker.
            queues=[*shared, f"worker:{worker_id}", TICK_QUEUE],
            name=worker_id,
            concurrency=1,
            fetch_job_polling_interval=1.0,
            abort_job_polling_interval=5.0,
            shutdown_graceful_timeout=grace_s,
            delete_jobs="always",
            install_signal_handlers=False,
        )
