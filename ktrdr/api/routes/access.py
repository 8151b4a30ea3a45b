"""Routes of revoked tokens and the audit trail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Response

from ktrdr.access.audit import MAX_PAGE
from ktrdr.api.auth import OperatorCaller
from ktrdr.api.errors import describe_errors
from ktrdr.api.state import StateDep
from ktrdr.schemas import PLAIN_TEXT_PATTERN, AuditEntry, RevokedToken, TokenRevocation

router = APIRouter()

FilterText = Annotated[str | None, Query(pattern=PLAIN_TEXT_PATTERN, max_length=300)]


@router.get("/tokens/revoked", tags=["tokens"], responses=describe_errors(401, 403))
async def list_revoked_tokens(_caller: OperatorCaller, state: StateDep) -> Sequence[RevokedToken]:
    """List the revoked tokens that have not expired."""
    return await state.revocations.load()


@router.post(
    "/tokens/revoked",
    tags=["tokens"],
    status_code=204,
    responses=describe_errors(400, 401, 403, 413, 422),
)
async def revoke_token(body: TokenRevocation, caller: OperatorCaller, state: StateDep) -> Response:
    """Revoke a token by its id, immediately; repeating this changes nothing."""
    await state.revocations.revoke(body.token_id, body.expires_at, by=caller)
    return Response(status_code=204)


@router.get("/audit", tags=["audit"], responses=describe_errors(401, 403, 422))
async def list_audit_entries(
    _caller: OperatorCaller,
    state: StateDep,
    subject: FilterText = None,
    actor: FilterText = None,
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
) -> Sequence[AuditEntry]:
    """List the newest entries; pass the last one's id as ``before`` to get the next."""
    return await state.audit.list_entries(subject=subject, actor=actor, before=before, limit=limit)
