"""A backend with something in it: an operation in every state, a worker, a dataset."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from ktrdr.database.pool import make_pool
from ktrdr.operations.files import results_directory
from ktrdr.operations.leases import LeaseBook
from ktrdr.operations.model import Claim
from ktrdr.operations.store import OperationStore
from ktrdr.schemas import OperationFault, OperationRequest, OperationType
from ktrdr.tokens import Role
from tests.integration.identities import ADA
from tests.integration.processes import NODE, Process, Site, token

CSV: Final = b"date,open,high,low,close\n2020-01-01,1,2,0.5,1\n2020-01-02,1,2,0.5,1.5\n"
REQUEST: Final = OperationRequest(
    operation_type=OperationType.BACKTEST, parameters={"symbol": "X", "folds": 3}
)
WORKER_ID: Final = "worker-1"
# Longer than any run of requests.
LEASE_S: Final = 36_000.0


@dataclass(frozen=True)
class Stage:
    """Where requests go, and what they may name so as to meet something.

    Attributes:
        open_ids: Operations that may still change; whoever watches one may have to wait.
        ended_ids: Operations that nothing can change any more.
    """

    backend: Process
    open_ids: tuple[str, ...]
    ended_ids: tuple[str, ...]


def set_up(place: Site) -> Stage:
    """Starts a backend, and brings every state about that an operation can be in."""
    # Nobody answers for the worker that is registered here, and it is to stay.
    backend = place.backend(
        HEALTH_CHECK_INTERVAL_S="5",
        WORKER_FORGET_AFTER_S="36000",
        # Bad tokens are part of what is tried; nobody is to wait for them.
        BAD_TOKENS_A_MINUTE="1000000",
    )
    place.client(backend).import_dataset(io.BytesIO(CSV), "X", "1d")
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
    open_ids, ended_ids = asyncio.run(_operations(place))
    return Stage(backend, open_ids, ended_ids)


async def _operations(place: Site) -> tuple[tuple[str, ...], tuple[str, ...]]:
    async with make_pool(place.settings, "fuzz", max_size=2) as pool:
        store, leases = OperationStore(pool), LeaseBook(pool)

        async def submitted() -> str:
            ((operation, _),) = await store.submit([REQUEST], by=ADA)
            return operation.operation_id

        async def claimed() -> Claim:
            name = await submitted()
            claim = await leases.claim(name, worker_id=WORKER_ID, lease_s=LEASE_S)
            assert claim is not None
            return claim

        pending, running, failed, done = (
            await submitted(),
            (await claimed()).lease.operation_id,
            (await claimed()).lease,
            (await claimed()).lease,
        )
        cancelled = await submitted()
        await store.cancel(cancelled, by=ADA)
        await leases.fail(failed, OperationFault(kind="broken", message="it broke", hint=None))
        await leases.complete(done, _published(place.shared, done.operation_id))
    return (pending, running, failed.operation_id, cancelled), (done.operation_id,)


def _published(shared: Path, operation_id: str) -> dict[str, object]:
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
