"""The queue that wakes workers: procrastinate, on the database the operations are in.

The queue decides nothing. Its entries say "look at this operation"; whether a worker may run it is
told by the claim (see `leases`). So an entry too many is harmless, and one too few is found by
the reaper.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.tasks import configure_task

from ktrdr.contracts import WorkerType
from ktrdr.database.pool import Connection, Pool, transaction
from ktrdr.database.queries import query

RUN_TASK: Final = "ktrdr.run"
TICK_TASK: Final = "ktrdr.tick"
TICK_QUEUE: Final = "tick"

RunOperation = Callable[[str], Awaitable[None]]


def pinned_queue(worker_id: str) -> str:
    """The queue that only one worker serves."""
    return f"worker:{worker_id}"


async def wake(connection: Connection, app: App, operation_id: str, worker_type: str) -> None:
    """Adds a queue entry within the transaction that is open on ``connection``."""
    deferrer = configure_task(
        name=RUN_TASK,
        job_manager=app.job_manager,
        queue=worker_type,
        task_kwargs={"operation_id": operation_id},
        connection=connection,
    )
    await deferrer.defer_async()


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
        async with transaction(pool) as connection:
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
    async with app.open_async(pool):
        await app.run_worker_async(
            queues=[worker_type.value, pinned_queue(worker_id), TICK_QUEUE],
            name=worker_id,
            concurrency=1,
            fetch_job_polling_interval=1.0,
            abort_job_polling_interval=5.0,
            shutdown_graceful_timeout=grace_s,
            delete_jobs="always",
            install_signal_handlers=False,
        )
