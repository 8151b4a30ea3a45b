"""Tokens that are not to be believed any more."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Response

from ktrdr.api.auth import Operator
from ktrdr.api.errors import documented
from ktrdr.api.state import BackendState
from ktrdr.schemas import RevokedToken, TokenRevocation

router = APIRouter(prefix="/tokens", tags=["tokens"])


@router.get("/revoked", responses=documented(401, 403))
async def revoked(_caller: Operator, state: BackendState) -> Sequence[RevokedToken]:
    """The revoked tokens that have not expired yet."""
    return await state.revocations.load()


@router.post("/revoked", status_code=204, responses=documented(400, 401, 403, 413, 422))
async def revoke(body: TokenRevocation, caller: Operator, state: BackendState) -> Response:
    """Revokes a token by its id, at once; repeating this is harmless."""
    await state.revocations.revoke(body.token_id, body.expires_at, by=caller)
    return Response(status_code=204)
