"""Operations: submit, watch, fetch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from opentelemetry.propagate import inject

from ktrdr.api.auth import Caller, Operator
from ktrdr.api.errors import documented
from ktrdr.api.state import BackendState, State
from ktrdr.contracts import (
    API_PREFIX,
    Operation,
    OperationEvent,
    OperationPage,
    OperationRequest,
    OperationResults,
    OperationStatus,
    OperationType,
)
from ktrdr.errors import NotFound
from ktrdr.operations.store import MAX_PAGE
from ktrdr.telemetry import metrics

router = APIRouter(prefix="/operations", tags=["operations"])

# What browsers may show; anything else is offered for download.
INLINE: Final = {".html": "text/html", ".json": "application/json", ".csv": "text/csv"}
ANYTHING_ELSE: Final = "application/octet-stream"
KINDS: Final = (*INLINE.values(), ANYTHING_ELSE)
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)]


@router.post("", status_code=202, responses=documented(400, 401, 403, 409, 422))
async def submit(
    body: OperationRequest,
    caller: Operator,
    state: BackendState,
    response: Response,
    idempotency_key: Key = None,
) -> Operation:
    """Queues an operation; with an idempotency key, repeating this is harmless."""
    carrier: dict[str, str] = {}
    inject(carrier)
    operation, created = await state.operations.submit(
        body,
        submitted_by=caller.subject,
        idempotency_key=idempotency_key,
        traceparent=carrier.get("traceparent"),
    )
    if created:
        metrics.operations_submitted.labels(body.operation_type.value).inc()
    response.headers["Location"] = f"{API_PREFIX}/operations/{operation.operation_id}"
    return operation


@router.get("", responses=documented(401, 422))
async def operations(
    _caller: Caller,
    state: BackendState,
    status: OperationStatus | None = None,
    operation_type: OperationType | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    cursor: str | None = None,
) -> OperationPage:
    """The newest operations, a page at a time."""
    return await state.operations.page(
        status=status, operation_type=operation_type, limit=limit, cursor=cursor
    )


@router.get("/{operation_id}", responses=documented(401, 404))
async def operation(operation_id: str, _caller: Caller, state: BackendState) -> Operation:
    """One operation."""
    return await state.operations.get(operation_id)


@router.delete("/{operation_id}", status_code=202, responses=documented(401, 403, 404, 409))
async def cancel(operation_id: str, caller: Operator, state: BackendState) -> Operation:
    """Cancels what is pending at once; a running operation stops within seconds."""
    return await state.operations.cancel(operation_id, by=caller.subject)


@router.post("/{operation_id}/resume", status_code=202, responses=documented(401, 403, 404, 409))
async def resume(operation_id: str, caller: Operator, state: BackendState) -> Operation:
    """Queues a failed or cancelled operation again; it goes on from its checkpoint."""
    return await state.operations.resume(operation_id, by=caller.subject)


@router.get("/{operation_id}/results", responses=documented(401, 404, 409))
async def results(operation_id: str, _caller: Caller, state: BackendState) -> OperationResults:
    """What a completed operation found."""
    return await state.operations.results(operation_id)


@router.get(
    "/{operation_id}/results/files/{name:path}",
    response_class=FileResponse,
    responses={200: {"content": {kind: {} for kind in KINDS}}, **documented(401, 404, 409)},
)
async def result_file(
    operation_id: str, name: str, _caller: Caller, state: BackendState
) -> FileResponse:
    """One of the files that the results name."""
    found = await state.operations.results(operation_id)
    # Only names that the results list are served, so no other path can be reached.
    path = state.settings.shared_mount_path / found.directory / name
    if name not in found.files or not path.is_file():
        raise NotFound(
            f"operation {operation_id} has no file {name!r}",
            hint=f"It has {', '.join(found.files)}.",
        )
    # A report is a page somebody else's data went into: it may show, but run nothing.
    return FileResponse(
        path,
        media_type=INLINE.get(Path(name).suffix, ANYTHING_ELSE),
        headers={
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
            "X-Content-Type-Options": "nosniff",
        },
    )


@router.get(
    "/{operation_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **documented(401, 404, 422)},
)
async def events(
    operation_id: str,
    _caller: Caller,
    state: BackendState,
    request: Request,
    last_event_id: Annotated[int, Header(ge=0)] = 0,
) -> StreamingResponse:
    """What happens to an operation, as server-sent events, until it has ended.

    After a break, a client that sends the last event's id misses nothing.
    """
    await state.operations.get(operation_id)
    return StreamingResponse(
        _stream(state, operation_id, last_event_id, request),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(
    state: State, operation_id: str, after: int, request: Request
) -> AsyncIterator[str]:
    shown = -1.0
    while not await request.is_disconnected():
        # Asked for first: a change between the look and the wait must not be slept through.
        changed = asyncio.create_task(state.feed.changed(operation_id))
        try:
            for event in await state.operations.events(operation_id, after=after):
                after = event.event_id
                yield _write(event)
            current = await state.operations.get(operation_id)
            if current.status is OperationStatus.RUNNING and current.progress != shown:
                shown = current.progress
                yield _write(_progress(current, after))
            if current.status.is_final:
                return
            yield ": still here\n\n"
            await changed
        finally:
            changed.cancel()


def _progress(operation: Operation, after: int) -> OperationEvent:
    return OperationEvent(
        event_id=after,
        operation_id=operation.operation_id,
        at=operation.started_at or operation.created_at,
        kind="progress",
        status=operation.status,
        progress=operation.progress,
        message=operation.progress_message,
    )


def _write(event: OperationEvent) -> str:
    return f"id: {event.event_id}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n"
