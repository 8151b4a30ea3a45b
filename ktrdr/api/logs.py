"""The log of an operation, from wherever it is: its worker while it runs, the files afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import httpx

from ktrdr.api.state import State
from ktrdr.errors import NotFound
from ktrdr.operations.files import log_path, published_log_path, read_from
from ktrdr.schemas import Operation, OperationStatus

WORKER_TIMEOUT_S: Final = 2.0
LOOK_EVERY_S: Final = 0.5


async def stream_log(state: State, operation_id: str, *, follow: bool) -> AsyncIterator[bytes]:
    """The log from its beginning; with ``follow``, what is added to it too, until the end.

    Args:
        state: The backend's parts.
        operation_id: Whose log.
        follow: Whether to wait for more while the operation has not ended.
    """
    offset = 0
    async with httpx.AsyncClient(timeout=WORKER_TIMEOUT_S, trust_env=False) as client:
        while True:
            # Asked for before the log is read: what is written before the end is then not missed.
            operation = await state.operations.get(operation_id)
            part = await _part(state, client, operation, offset)
            if part:
                offset += len(part)
                yield part
            elif operation.status.is_final or not follow or state.feed.closed:
                return
            else:
                await asyncio.sleep(LOOK_EVERY_S)


async def _part(
    state: State, client: httpx.AsyncClient, operation: Operation, offset: int
) -> bytes:
    """What stands in the log from ``offset`` on; empty if there is no more."""
    if operation.status is OperationStatus.RUNNING and operation.worker_id:
        part = await _ask_worker(state, client, operation.worker_id, operation.operation_id, offset)
        if part is not None:
            return part
    shared = state.settings.shared_mount_path
    for path in (published_log_path, log_path):
        part = await asyncio.to_thread(read_from, path(shared, operation.operation_id), offset)
        if part:
            return part
    return b""


async def _ask_worker(
    state: State, client: httpx.AsyncClient, worker_id: str, operation_id: str, offset: int
) -> bytes | None:
    """What the worker has of the log, which it sees sooner than we do; None if it says nothing."""
    try:
        worker = await state.registry.get(worker_id)
        answer = await client.get(
            f"{worker.endpoint_url}/operations/{operation_id}/logs", params={"offset": offset}
        )
    except (NotFound, httpx.HTTPError):
        return None
    return answer.content if answer.is_success else None
