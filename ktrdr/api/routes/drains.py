"""Drains: workers and nodes that take nothing new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Response

from ktrdr.api.auth import Caller, Operator
from ktrdr.api.errors import documented
from ktrdr.api.state import BackendState
from ktrdr.schemas import Drain, DrainRequest

router = APIRouter(prefix="/drains", tags=["workers"])

# A worker's id, or the host name of a node.
Target = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,252}$")]


@router.get("", responses=documented(401))
async def drains(_caller: Caller, state: BackendState) -> Sequence[Drain]:
    """What is drained."""
    return list((await state.drains.all()).values())


@router.put("/{target}", responses=documented(400, 401, 403, 413, 422))
async def start(target: Target, body: DrainRequest, caller: Operator, state: BackendState) -> Drain:
    """Lets a worker, or all of a node, take nothing new; what they run they finish or hand over.

    It need not be registered: a worker that comes back is drained still.
    """
    return await state.drains.start(target, body.mode, by=caller)


@router.delete("/{target}", status_code=204, responses=documented(401, 403, 404, 422))
async def end(target: Target, caller: Operator, state: BackendState) -> Response:
    """Lets it take work again."""
    await state.drains.end(target, by=caller)
    return Response(status_code=204)
