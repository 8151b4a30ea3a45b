"""What operations leave behind: figures, files, logs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.responses import FileResponse, StreamingResponse

from ktrdr.api.auth import Caller
from ktrdr.api.errors import documented
from ktrdr.api.logs import stream_log
from ktrdr.api.paths import Id
from ktrdr.api.state import BackendState
from ktrdr.errors import NotFound
from ktrdr.schemas import OperationResults

router = APIRouter(prefix="/operations", tags=["operations"])

# What browsers may show; anything else is offered for download.
INLINE: Final = {".html": "text/html", ".json": "application/json", ".csv": "text/csv"}
ANYTHING_ELSE: Final = "application/octet-stream"
KINDS: Final = (*INLINE.values(), ANYTHING_ELSE)


@router.get("/{operation_id}/results", responses=documented(401, 404, 409))
async def results(operation_id: Id, _caller: Caller, state: BackendState) -> OperationResults:
    """What a completed operation found."""
    return await state.operations.results(operation_id)


@router.get(
    "/{operation_id}/results/files/{name:path}",
    response_class=FileResponse,
    responses={200: {"content": {kind: {} for kind in KINDS}}, **documented(401, 404, 409)},
)
async def result_file(
    operation_id: Id, name: str, _caller: Caller, state: BackendState
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
    "/{operation_id}/logs",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/plain": {}}}, **documented(401, 404, 422)},
)
async def logs(
    operation_id: Id, _caller: Caller, state: BackendState, follow: bool = False
) -> StreamingResponse:
    """What the work has written to its log, over all its attempts; with ``follow``, until it ends.

    Kept with the results of what completed, and beside the checkpoints of what did not.
    """
    await state.operations.get(operation_id)
    return StreamingResponse(
        stream_log(state, operation_id, follow=follow),
        media_type="text/plain; charset=utf-8",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
