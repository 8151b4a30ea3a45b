"""Files that killed workers have left behind."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from ktrdr.api.auth import Caller, Operator
from ktrdr.api.errors import documented
from ktrdr.api.state import BackendState, State
from ktrdr.operations.sweeping import sweep
from ktrdr.schemas import LeftoverFile

router = APIRouter(prefix="/leftovers", tags=["operations"])


@router.get("", responses=documented(401))
async def leftovers(_caller: Caller, state: BackendState) -> Sequence[LeftoverFile]:
    """What a sweep would remove."""
    return await _swept(state, dry_run=True)


@router.delete("", responses=documented(401, 403))
async def remove(caller: Operator, state: BackendState) -> Sequence[LeftoverFile]:
    """Removes it now instead of at the next scheduled sweep."""
    removed = await _swept(state, dry_run=False)
    await state.audit.note(caller, "leftovers.remove", f"{len(removed)} files")
    return removed


async def _swept(state: State, *, dry_run: bool) -> list[LeftoverFile]:
    shared = state.settings.shared_mount_path
    return [
        LeftoverFile(operation_id=each.operation_id, path=str(each.path.relative_to(shared)))
        for each in await sweep(state.operations, shared, dry_run=dry_run)
    ]
