"""Workers: they register themselves, everybody with a token may look."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Response

from ktrdr.api.auth import Caller, WorkerCaller, require_own_node
from ktrdr.api.errors import documented
from ktrdr.api.state import BackendState
from ktrdr.errors import Forbidden
from ktrdr.schemas import Worker, WorkerRegistration, WorkerStatus, WorkerType
from ktrdr.tokens import Role

router = APIRouter(prefix="/workers", tags=["workers"])


@router.post("/register", responses=documented(400, 401, 403, 413, 422))
async def register(
    registration: WorkerRegistration, caller: WorkerCaller, state: BackendState
) -> Worker:
    """A worker says that it is there; saying so again changes nothing but what it says."""
    require_own_node(caller, registration)
    return await state.registry.register(registration)


@router.get("", responses=documented(401, 422))
async def workers(
    _caller: Caller,
    state: BackendState,
    worker_type: WorkerType | None = None,
    status: WorkerStatus | None = None,
) -> Sequence[Worker]:
    """The registered workers."""
    return await state.registry.workers(worker_type=worker_type, status=status)


@router.get("/{worker_id}", responses=documented(401, 404))
async def worker(worker_id: str, _caller: Caller, state: BackendState) -> Worker:
    """One worker; a worker that gets a 404 for itself registers again."""
    return await state.registry.get(worker_id)


@router.delete("/{worker_id}", status_code=204, responses=documented(401, 403, 404))
async def remove(worker_id: str, caller: Caller, state: BackendState) -> Response:
    """A worker says good-bye, or an operator sees to it."""
    if caller.role is not Role.OPERATOR:
        known = await state.registry.get(worker_id)
        if caller.role is not Role.WORKER or known.node != caller.node:
            raise Forbidden(
                f"only an operator, or worker {worker_id} itself, may remove it",
                hint="Use a token of role operator.",
            )
    await state.registry.remove(worker_id)
    if caller.role is Role.OPERATOR:
        await state.audit.note(caller, "worker.remove", worker_id)
    return Response(status_code=204)
