"""Routes of operations: submission, listing, cancellation, events, orphans."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from opentelemetry.propagate import inject
from pydantic import Field

from ktrdr.api.auth import Caller, OperatorCaller
from ktrdr.api.errors import describe_errors
from ktrdr.api.state import BackendState, StateDep
from ktrdr.errors import NotFound
from ktrdr.operations.orphans import remove_orphans
from ktrdr.operations.store import MAX_PAGE, OperationFilter
from ktrdr.schemas import (
    API_PREFIX,
    MAX_BATCH,
    OPERATION_ID_PATTERN,
    PLAIN_TEXT_PATTERN,
    Operation,
    OperationEvent,
    OperationPage,
    OperationRequest,
    OperationStatus,
    OperationType,
    OrphanFile,
    RequestModel,
)
from ktrdr.telemetry import metrics

router = APIRouter(prefix="/operations", tags=["operations"])
orphans_router = APIRouter(prefix="/leftovers", tags=["operations"])

Batch = Annotated[list[OperationRequest], Field(min_length=1, max_length=MAX_BATCH)]
FilterText = Annotated[str, Field(pattern=PLAIN_TEXT_PATTERN, max_length=300)]
IdempotencyKey = Annotated[
    str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)
]


def _validate_operation_id(_caller: Caller, operation_id: str) -> str:
    # It depends on the caller, so that a request without a token learns nothing else.
    if not re.fullmatch(OPERATION_ID_PATTERN, operation_id):
        raise NotFound(
            f"{operation_id!r} is not the id of an operation",
            hint="List the operations with `ktrdr operations list`.",
        )
    return operation_id


OperationId = Annotated[str, Depends(_validate_operation_id)]


class OperationQuery(RequestModel):
    """Query parameters of a listing: filter and page."""

    status: OperationStatus | None = None
    operation_type: OperationType | None = None
    parent_id: FilterText | None = Field(
        default=None, description="Only the children of this operation."
    )
    parts: bool = Field(default=False, description="List child operations as well.")
    worker_id: FilterText | None = None
    submitted_by: FilterText | None = None
    limit: int = Field(default=50, ge=1, le=MAX_PAGE)
    cursor: FilterText | None = None


@router.post("", status_code=202, responses=describe_errors(400, 401, 403, 409, 413, 422))
async def submit_operations(
    body: OperationRequest | Batch,
    caller: OperatorCaller,
    state: StateDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Operation | list[Operation]:
    """Submit an operation, or a list of them, all or none.

    With an idempotency key, repeating this changes nothing.
    """
    carrier: dict[str, str] = {}
    inject(carrier)
    submitted = await state.operations.submit(
        body if isinstance(body, list) else [body],
        by=caller,
        idempotency_key=idempotency_key,
        traceparent=carrier.get("traceparent"),
    )
    for operation, is_new in submitted:
        metrics.operations_submitted.labels(operation.operation_type.value).inc(is_new)
    if isinstance(body, list):
        return [operation for operation, _ in submitted]
    ((operation, _),) = submitted
    response.headers["Location"] = f"{API_PREFIX}/operations/{operation.operation_id}"
    return operation


@router.get("", responses=describe_errors(401, 422))
async def list_operations(
    _caller: Caller,
    state: StateDep,
    query: Annotated[OperationQuery, Query()],
) -> OperationPage:
    """List the newest operations, a page at a time."""
    operation_filter = OperationFilter(
        **query.model_dump(exclude={"parts", "limit", "cursor"}),
        include_children=query.parts or query.parent_id is not None,
    )
    return await state.operations.list_page(
        operation_filter, limit=query.limit, cursor=query.cursor
    )


@router.get("/{operation_id}", responses=describe_errors(401, 404))
async def get_operation(operation_id: OperationId, _caller: Caller, state: StateDep) -> Operation:
    """Return an operation."""
    return await state.operations.get(operation_id)


@router.delete("/{operation_id}", status_code=202, responses=describe_errors(401, 403, 404, 409))
async def cancel_operation(
    caller: OperatorCaller, operation_id: OperationId, state: StateDep
) -> Operation:
    """Cancel a pending operation immediately, and a running one within seconds.

    The children of a parent operation are cancelled too.
    """
    return await state.operations.cancel(operation_id, by=caller)


@router.post(
    "/{operation_id}/resume", status_code=202, responses=describe_errors(401, 403, 404, 409)
)
async def resume_operation(
    caller: OperatorCaller, operation_id: OperationId, state: StateDep
) -> Operation:
    """Queue a failed or cancelled operation again; it continues from its checkpoint."""
    return await state.operations.resume(operation_id, by=caller)


@router.get(
    "/{operation_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **describe_errors(401, 404, 422)},
)
async def stream_events(
    operation_id: OperationId,
    _caller: Caller,
    state: StateDep,
    request: Request,
    last_event_id: Annotated[int, Header(ge=0)] = 0,
) -> StreamingResponse:
    """Stream the events of an operation as server-sent events until it has ended.

    A client that reconnects with the last event's id misses nothing.
    """
    await state.operations.get(operation_id)
    return StreamingResponse(
        _stream_events(state, operation_id, last_event_id, request),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream_events(
    state: BackendState, operation_id: str, after: int, request: Request
) -> AsyncIterator[str]:
    last_progress = -1.0
    while not (state.change_feed.is_closed or await request.is_disconnected()):
        # Waiting starts before reading, so that a change in between is not missed.
        changed = asyncio.create_task(state.change_feed.wait_for_change(operation_id))
        try:
            for event in await state.operations.list_events(operation_id, after=after):
                after = event.event_id
                yield _encode(event)
            operation = await state.operations.get(operation_id)
            if operation.status is OperationStatus.RUNNING and operation.progress != last_progress:
                last_progress = operation.progress
                yield _encode(_progress_event(operation, after))
            if operation.status.is_final:
                return
            yield ": still here\n\n"
            await changed
        finally:
            changed.cancel()


def _progress_event(operation: Operation, after: int) -> OperationEvent:
    return OperationEvent(
        event_id=after,
        operation_id=operation.operation_id,
        at=operation.started_at or operation.created_at,
        kind="progress",
        status=operation.status,
        progress=operation.progress,
        message=operation.progress_message,
    )


def _encode(event: OperationEvent) -> str:
    return f"id: {event.event_id}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n"


@orphans_router.get("", responses=describe_errors(401))
async def list_orphans(_caller: Caller, state: StateDep) -> Sequence[OrphanFile]:
    """List the orphans."""
    return await _remove_orphans(state, dry_run=True)


@orphans_router.delete("", responses=describe_errors(401, 403))
async def delete_orphans(caller: OperatorCaller, state: StateDep) -> Sequence[OrphanFile]:
    """Delete the orphans now instead of at the next scheduled removal, and list them."""
    orphans = await _remove_orphans(state, dry_run=False)
    await state.audit.record(caller, "leftovers.remove", f"{len(orphans)} files")
    return orphans


async def _remove_orphans(state: BackendState, *, dry_run: bool) -> list[OrphanFile]:
    shared = state.settings.shared_mount_path
    return [
        OrphanFile(operation_id=orphan.operation_id, path=str(orphan.path.relative_to(shared)))
        for orphan in await remove_orphans(state.operations, shared, dry_run=dry_run)
    ]
