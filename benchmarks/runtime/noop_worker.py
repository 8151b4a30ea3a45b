"""A worker without a child process, which claims operations and completes them immediately.

All code between queue and result is the runtime's own. Only the work is omitted, to measure the
cost of the engine. Started as ``python -m benchmarks.runtime.noop_worker ID``.
"""

from __future__ import annotations

import asyncio
import sys

from ktrdr.database.pool import make_pool
from ktrdr.operations.leases import LeaseBook
from ktrdr.operations.queue import serve, working_app
from ktrdr.schemas import WorkerType
from ktrdr.settings import Settings

RESULT = {"summary": {}, "directory": "none", "files": [], "report": "none"}


async def work(settings: Settings, worker_id: str) -> None:
    """Serve the queue of backtests until the process is stopped."""
    async with make_pool(settings, worker_id, max_size=4) as pool:
        leases = LeaseBook(pool)

        async def run(operation_id: str) -> None:
            claim = await leases.claim(operation_id, worker_id=worker_id, lease_s=30)
            if claim is not None:
                await leases.complete(claim.lease, RESULT)

        await serve(
            working_app(pool, run),
            pool,
            worker_id=worker_id,
            worker_type=WorkerType.BACKTESTING,
            grace_s=1,
        )


if __name__ == "__main__":
    asyncio.run(work(Settings.load(), sys.argv[1]))
