"""Target of the fuzz test: a backend with an operation in every state, a worker and a dataset."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from ktrdr.database.pool import make_pool
from ktrdr.operations.files import results_directory
from ktrdr.operations.leases import LeaseStore
from ktrdr.operations.model import Claim
from ktrdr.operations.store import OperationStore
from ktrdr.schemas import ErrorDetail, OperationRequest, OperationType
from ktrdr.tokens import Role
from tests.integration.identities import ADA
from tests.integration.processes import NODE, Runtime, ServerProcess, token

CSV: Final = b"date,open,high,low,close\n2020-01-01,1,2,0.5,1\n2020-01-02,1,2,0.5,1.5\n"
REQUEST: Final = OperationRequest(
    operation_type=OperationType.BACKTEST, parameters={"symbol": "X", "folds": 3}
)
WORKER_ID: Final = "worker-1"
# Longer than any fuzz run.
LEASE_S: Final = 36_000.0


@dataclass(frozen=True)
class FuzzTarget:
    """Backend that requests go to, and the ids that exist there.

    Attributes:
        open_ids: Operations that may still change, so their event streams may not end.
        ended_ids: Operations that cannot change any more.
    """

    backend: ServerProcess
    open_ids: tuple[str, ...]
    ended_ids: tuple[str, ...]


def start_target(runtime: Runtime) -> FuzzTarget:
    """Start a backend and create an operation in every state."""
    # The registered worker does not respond, but must stay registered.
    backend = runtime.backend(
        HEALTH_CHECK_INTERVAL_S="5",
        WORKER_FORGET_AFTER_S="36000",
        # The requests include bad tokens, which must not block the others.
        BAD_TOKENS_A_MINUTE="1000000",
    )
    runtime.client(backend).import_dataset(io.BytesIO(CSV), "X", "1d")
    httpx.post(
        f"{backend.url}/api/v1/workers/register",
        json={
            "worker_id": WORKER_ID,
            "worker_type": "backtesting",
            "endpoint_url": f"http://{NODE}:9",
            "version": "sha-7e57ed0",
        },
        headers={"Authorization": f"Bearer {token(Role.WORKER).reveal()}"},
        trust_env=False,
    ).raise_for_status()
    open_ids, ended_ids = asyncio.run(_create_operations(runtime))
    return FuzzTarget(backend, open_ids, ended_ids)


async def _create_operations(runtime: Runtime) -> tuple[tuple[str, ...], tuple[str, ...]]:
    async with make_pool(runtime.settings, "fuzz", max_size=2) as pool:
        store, leases = OperationStore(pool), LeaseStore(pool)

        async def submit() -> str:
            ((operation, _),) = await store.submit([REQUEST], by=ADA)
            return operation.operation_id

        async def claim() -> Claim:
            operation_id = await submit()
            claimed = await leases.claim(operation_id, worker_id=WORKER_ID, lease_s=LEASE_S)
            assert claimed is not None
            return claimed

        pending, running, failed, done = (
            await submit(),
            (await claim()).lease.operation_id,
            (await claim()).lease,
            (await claim()).lease,
        )
        cancelled = await submit()
        await store.cancel(cancelled, by=ADA)
        await leases.fail(failed, ErrorDetail(kind="broken", message="it broke", hint=None))
        await leases.complete(done, _publish_results(runtime.shared, done.operation_id))
    return (pending, running, failed.operation_id, cancelled), (done.operation_id,)


def _publish_results(shared: Path, operation_id: str) -> dict[str, object]:
    directory = results_directory(operation_id)
    path = shared / directory
    path.mkdir(parents=True)
    (path / "report.html").write_text("<!doctype html><title>a report</title>")
    return {
        "summary": {"bars": 2, "sharpe": 0.5, "model": None},
        "directory": directory,
        "files": ["report.html"],
        "report": "report.html",
    }
