"""Routes of workers and drains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Response

from ktrdr.api.auth import Caller, OperatorCaller, WorkerCaller, require_own_node
from ktrdr.api.errors import describe_errors
from ktrdr.api.state import StateDep
from ktrdr.errors import Forbidden
from ktrdr.schemas import (
    Drain,
    DrainRequest,
    Worker,
    WorkerRegistration,
    WorkerStatus,
    WorkerType,
)
from ktrdr.tokens import Role

router = APIRouter(tags=["workers"])

# A worker's id, or the host name of a node.
DrainTarget = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,252}$")]


@router.post("/workers/register", responses=describe_errors(400, 401, 403, 413, 422))
async def register_worker(
    registration: WorkerRegistration, caller: WorkerCaller, state: StateDep
) -> Worker:
    """Register a worker, or replace its earlier registration."""
    require_own_node(caller, registration)
    return await state.registry.register(registration)


@router.get("/workers", responses=describe_errors(401, 422))
async def list_workers(
    _caller: Caller,
    state: StateDep,
    worker_type: WorkerType | None = None,
    status: WorkerStatus | None = None,
) -> Sequence[Worker]:
    """List the registered workers."""
    return await state.registry.list_workers(worker_type=worker_type, status=status)


@router.get("/workers/{worker_id}", responses=describe_errors(401, 404))
async def get_worker(worker_id: str, _caller: Caller, state: StateDep) -> Worker:
    """Return a worker; a worker that gets a 404 for itself registers again."""
    return await state.registry.get(worker_id)


@router.delete("/workers/{worker_id}", status_code=204, responses=describe_errors(401, 403, 404))
async def remove_worker(worker_id: str, caller: Caller, state: StateDep) -> Response:
    """Remove a worker, on its own request or an operator's."""
    if caller.role is not Role.OPERATOR:
        worker = await state.registry.get(worker_id)
        if caller.role is not Role.WORKER or worker.node != caller.node:
            raise Forbidden(
                f"only an operator, or worker {worker_id} itself, may remove it",
                hint="Use a token of role operator.",
            )
    await state.registry.remove(worker_id)
    if caller.role is Role.OPERATOR:
        await state.audit.record(caller, "worker.remove", worker_id)
    return Response(status_code=204)


@router.get("/drains", responses=describe_errors(401))
async def list_drains(_caller: Caller, state: StateDep) -> Sequence[Drain]:
    """List the drained workers and nodes."""
    return await state.drains.list_drains()


@router.put("/drains/{target}", responses=describe_errors(400, 401, 403, 413, 422))
async def drain(
    target: DrainTarget, body: DrainRequest, caller: OperatorCaller, state: StateDep
) -> Drain:
    """Drain a worker or a node: it gets no new operations, and finishes or hands over its own.

    The target need not be registered. A worker that returns is still drained.
    """
    return await state.drains.drain(target, body.mode, by=caller)


@router.delete("/drains/{target}", status_code=204, responses=describe_errors(401, 403, 404, 422))
async def undrain(target: DrainTarget, caller: OperatorCaller, state: StateDep) -> Response:
    """Let a worker or a node claim operations again."""
    await state.drains.undrain(target, by=caller)
    return Response(status_code=204)
