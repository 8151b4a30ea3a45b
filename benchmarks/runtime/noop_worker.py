"""Worker without a child process: it claims operations and completes them immediately.

Queue, leases and results are the runtime's own. Only the computation is left out, so the benchmark
measures the cost of the runtime. Started as ``python -m benchmarks.runtime.noop_worker ID``.
"""

from __future__ import annotations

import asyncio
import sys

from ktrdr.database.pool import make_pool
from ktrdr.operations.leases import LeaseStore
from ktrdr.operations.queue import make_worker_app, serve_queue
from ktrdr.schemas import WorkerType
from ktrdr.settings import Settings

RESULT = {"summary": {}, "directory": "none", "files": [], "report": "none"}


async def serve(settings: Settings, worker_id: str) -> None:
    """Serve the queue of backtests until killed."""
    async with make_pool(settings, worker_id, max_size=4) as pool:
        leases = LeaseStore(pool)

        async def run(operation_id: str) -> None:
            claim = await leases.claim(operation_id, worker_id=worker_id, lease_s=30)
            if claim is not None:
                await leases.complete(claim.lease, RESULT)

        await serve_queue(
            make_worker_app(pool, run),
            pool,
            worker_id=worker_id,
            worker_type=WorkerType.BACKTESTING,
            grace_s=1,
        )


if __name__ == "__main__":
    asyncio.run(serve(Settings.load(), sys.argv[1]))
