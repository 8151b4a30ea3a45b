"""The queue that wakes workers: procrastinate, on the database the operations are in.

The queue decides nothing. Its entries say "look at this operation"; whether a worker may run it is
told by the claim (see `leases`). So an entry too many is harmless, and one too few is found by
the reaper.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Final

from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.tasks import configure_task
from procrastinate.types import JSONDict

from ktrdr.database.pool import Connection, Pool, autocommit
from ktrdr.database.queries import query
from ktrdr.operations.model import Row
from ktrdr.schemas import WorkerType

RUN_TASK: Final = "ktrdr.run"
TICK_TASK: Final = "ktrdr.tick"
TICK_QUEUE: Final = "tick"
# Grows whenever operations get parameters that workers of the release before cannot read: those
# do not serve the new queue, and during a deploy such work waits for workers that can do it.
WORK_VERSION: Final = 2

RunOperation = Callable[[str], Awaitable[None]]


def queue_of(worker_type: str, version: int = WORK_VERSION) -> str:
    """The queue that all workers of a type serve which know this version of the work."""
    return worker_type if version == 1 else f"{worker_type}.{version}"


def pinned_queue(worker_id: str) -> str:
    """The queue that only one worker serves."""
    return f"worker:{worker_id}"


async def wake(connection: Connection, app: App, operations: Iterable[Row]) -> None:
    """Adds queue entries within the transaction that is open on ``connection``.

    Args:
        connection: The one whose transaction has just written the operations.
        app: The queue.
        operations: Their rows; an entry of one that waits is not seen before its time.
    """
    together: dict[tuple[str, datetime | None, int], list[str]] = {}
    for row in operations:
        key = (row["worker_type"], row["not_before"], _priority_of(row))
        together.setdefault(key, []).append(row["operation_id"])
    for (worker_type, not_before, priority), operation_ids in together.items():
        deferrer = configure_task(
            name=RUN_TASK,
            job_manager=app.job_manager,
            queue=queue_of(worker_type),
            schedule_at=not_before,
            priority=priority,
            connection=connection,
        )
        entries: list[JSONDict] = [{"operation_id": each} for each in operation_ids]
        await deferrer.batch_defer_async(*entries)


def _priority_of(row: Row) -> int:
    """What was begun is finished before anything new is: an attempt, or the parts of a whole."""
    return int(row["attempt"] > 0 or row["started_at"] is not None)


def submitting_app() -> App:
    """An app that can only defer, on the caller's own connection."""
    return App(connector=PsycopgConnector())


def working_app(pool: Pool, run: RunOperation) -> App:
    """An app that runs operations.

    Without a periodic task procrastinate's side tasks end at once, and a worker then stays deaf
    after a restart of the database; the tick is that task, and keeps the queue's table small.
    """
    app = App(connector=PsycopgConnector())

    async def run_operation(operation_id: str) -> None:
        await run(operation_id)

    async def tick(_context: JobContext, timestamp: int) -> None:  # noqa: ARG001  # its signature
        async with autocommit(pool) as connection:
            await connection.execute(query("ktrdr.operations", "purge_queue"))

    app.task(name=RUN_TASK)(run_operation)
    app.periodic(cron="* * * * *")(
        app.task(name=TICK_TASK, queue=TICK_QUEUE, queueing_lock=TICK_TASK, pass_context=True)(tick)
    )
    return app


async def serve(
    app: App, pool: Pool, *, worker_id: str, worker_type: WorkerType, grace_s: float
) -> None:
    """Takes entries of the worker's queues, one at a time, until cancelled.

    Retried entries send no notification, so the table is polled every second besides listening.
    """
    shared = [queue_of(worker_type.value, version) for version in range(1, WORK_VERSION + 1)]
    async with app.open_async(pool):
        await app.run_worker_async(
            queues=[*shared, pinned_queue(worker_id), TICK_QUEUE],
            name=worker_id,
            concurrency=1,
            fetch_job_polling_interval=1.0,
            abort_job_polling_interval=5.0,
            shutdown_graceful_timeout=grace_s,
            delete_jobs="always",
            install_signal_handlers=False,
        )
