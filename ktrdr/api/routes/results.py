"""Routes of an operation's results, result files and log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx
from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse, StreamingResponse

from ktrdr.api.auth import Caller, require_shared_directory
from ktrdr.api.errors import describe_errors
from ktrdr.api.routes.operations import OperationId
from ktrdr.api.state import BackendState, StateDep
from ktrdr.errors import NotFound
from ktrdr.operations.files import log_path, published_log_path, read_log_chunk
from ktrdr.schemas import Operation, OperationResults, OperationStatus

router = APIRouter(prefix="/operations", tags=["operations"])

# Content types that browsers may display. Other files are offered for download.
INLINE_TYPES: Final = {".html": "text/html", ".json": "application/json", ".csv": "text/csv"}
DOWNLOAD_TYPE: Final = "application/octet-stream"
CONTENT_TYPES: Final = (*INLINE_TYPES.values(), DOWNLOAD_TYPE)
WORKER_TIMEOUT_S: Final = 2.0
POLL_LOG_EVERY_S: Final = 0.5


@router.get("/{operation_id}/results", responses=describe_errors(401, 404, 409))
async def get_results(
    operation_id: OperationId, _caller: Caller, state: StateDep
) -> OperationResults:
    """Return the results of a completed operation."""
    return await state.operations.get_results(operation_id)


@router.get(
    "/{operation_id}/results/files/{name:path}",
    response_class=FileResponse,
    dependencies=[Depends(require_shared_directory)],
    responses={
        200: {"content": {content_type: {} for content_type in CONTENT_TYPES}},
        **describe_errors(401, 404, 409),
    },
)
async def get_result_file(
    operation_id: OperationId, name: str, _caller: Caller, state: StateDep
) -> FileResponse:
    """Return one of the result files."""
    results = await state.operations.get_results(operation_id)
    # Only names in the results are served, so no other path can be reached.
    path = state.settings.shared_mount_path / results.directory / name
    if name not in results.files or not path.is_file():
        raise NotFound(
            f"operation {operation_id} has no file {name!r}",
            hint=f"It has {', '.join(results.files)}.",
        )
    # A report contains data of other people, so it may be displayed but must not run scripts.
    return FileResponse(
        path,
        media_type=INLINE_TYPES.get(Path(name).suffix, DOWNLOAD_TYPE),
        headers={
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
            "X-Content-Type-Options": "nosniff",
        },
    )


@router.get(
    "/{operation_id}/logs",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/plain": {}}}, **describe_errors(401, 404, 422)},
)
async def get_log(
    operation_id: OperationId, _caller: Caller, state: StateDep, follow: bool = False
) -> StreamingResponse:
    """Return the log of all attempts at an operation; with ``follow``, stream it until the end."""
    await state.operations.get(operation_id)
    return StreamingResponse(
        _stream_log(state, operation_id, follow=follow),
        media_type="text/plain; charset=utf-8",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream_log(
    state: BackendState, operation_id: str, *, follow: bool
) -> AsyncIterator[bytes]:
    offset = 0
    async with httpx.AsyncClient(timeout=WORKER_TIMEOUT_S, trust_env=False) as client:
        while True:
            # Fetched before the log is read, so that lines written before the end are not missed.
            operation = await state.operations.get(operation_id)
            chunk = await _read_log(state, client, operation, offset)
            if chunk:
                offset += len(chunk)
                yield chunk
            elif operation.status.is_final or not follow or state.change_feed.is_closed:
                return
            else:
                await asyncio.sleep(POLL_LOG_EVERY_S)


async def _read_log(
    state: BackendState, client: httpx.AsyncClient, operation: Operation, offset: int
) -> bytes:
    """Return the next chunk of a log: from the worker while it runs, otherwise from the files.

    The worker sees new lines sooner than the backend does through the shared directory.
    """
    operation_id = operation.operation_id
    if operation.status is OperationStatus.RUNNING and operation.worker_id:
        try:
            worker = await state.registry.get(operation.worker_id)
            response = await client.get(
                f"{worker.endpoint_url}/operations/{operation_id}/logs", params={"offset": offset}
            )
            if response.is_success:
                return response.content
        except (NotFound, httpx.HTTPError):
            pass
    shared = state.settings.shared_mount_path
    for path in (published_log_path(shared, operation_id), log_path(shared, operation_id)):
        chunk = await asyncio.to_thread(read_log_chunk, path, offset)
        if chunk:
            return chunk
    return b""
