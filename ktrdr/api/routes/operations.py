"""Operations: submit, watch, fetch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from opentelemetry.propagate import inject
from pydantic import Field

from ktrdr.api.auth import Caller, Operator
from ktrdr.api.errors import documented
from ktrdr.api.paths import Id
from ktrdr.api.state import BackendState, State
from ktrdr.operations.store import MAX_PAGE, Filter
from ktrdr.schemas import (
    API_PREFIX,
    MAX_BATCH,
    PLAIN_TEXT,
    Contract,
    Operation,
    OperationEvent,
    OperationPage,
    OperationRequest,
    OperationStatus,
    OperationType,
)
from ktrdr.telemetry import metrics

router = APIRouter(prefix="/operations", tags=["operations"])

Batch = Annotated[list[OperationRequest], Field(min_length=1, max_length=MAX_BATCH)]
Text = Annotated[str, Field(pattern=PLAIN_TEXT, max_length=300)]


class Wanted(Contract):
    """Which operations a listing is to show, and where it begins."""

    status: OperationStatus | None = None
    operation_type: OperationType | None = None
    parent_id: Text | None = Field(default=None, description="Parts of this one alone.")
    parts: bool = Field(default=False, description="Whether parts of others are listed as well.")
    worker_id: Text | None = None
    submitted_by: Text | None = None
    limit: int = Field(default=50, ge=1, le=MAX_PAGE)
    cursor: Text | None = None


Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)]


@router.post("", status_code=202, responses=documented(400, 401, 403, 409, 413, 422))
async def submit(
    body: OperationRequest | Batch,
    caller: Operator,
    state: BackendState,
    response: Response,
    idempotency_key: Key = None,
) -> Operation | list[Operation]:
    """Queues an operation, or a list of them, all or none.

    With an idempotency key, repeating this is harmless.
    """
    carrier: dict[str, str] = {}
    inject(carrier)
    submitted = await state.operations.submit(
        body if isinstance(body, list) else [body],
        by=caller,
        idempotency_key=idempotency_key,
        traceparent=carrier.get("traceparent"),
    )
    for operation, created in submitted:
        metrics.operations_submitted.labels(operation.operation_type.value).inc(created)
    if isinstance(body, list):
        return [operation for operation, _ in submitted]
    ((operation, _),) = submitted
    response.headers["Location"] = f"{API_PREFIX}/operations/{operation.operation_id}"
    return operation


@router.get("", responses=documented(401, 422))
async def operations(
    _caller: Caller,
    state: BackendState,
    wanted: Annotated[Wanted, Query()],
) -> OperationPage:
    """The newest operations, a page at a time."""
    chosen = Filter(
        status=wanted.status,
        operation_type=wanted.operation_type,
        parent_id=wanted.parent_id,
        with_parts=wanted.parts or wanted.parent_id is not None,
        worker_id=wanted.worker_id,
        submitted_by=wanted.submitted_by,
    )
    return await state.operations.page(chosen, limit=wanted.limit, cursor=wanted.cursor)


@router.get("/{operation_id}", responses=documented(401, 404))
async def operation(operation_id: Id, _caller: Caller, state: BackendState) -> Operation:
    """One operation."""
    return await state.operations.get(operation_id)


@router.delete("/{operation_id}", status_code=202, responses=documented(401, 403, 404, 409))
async def cancel(caller: Operator, operation_id: Id, state: BackendState) -> Operation:
    """Cancels what is pending at once; a running operation stops within seconds.

    Of an operation that was divided, the parts are cancelled too.
    """
    return await state.operations.cancel(operation_id, by=caller)


@router.post("/{operation_id}/resume", status_code=202, responses=documented(401, 403, 404, 409))
async def resume(caller: Operator, operation_id: Id, state: BackendState) -> Operation:
    """Queues a failed or cancelled operation again; it goes on from its checkpoint."""
    return await state.operations.resume(operation_id, by=caller)


@router.get(
    "/{operation_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **documented(401, 404, 422)},
)
async def events(
    operation_id: Id,
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
    while not (state.feed.closed or await request.is_disconnected()):
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
