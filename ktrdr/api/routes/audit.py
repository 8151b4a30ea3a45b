"""Who changed what, and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from ktrdr.access.audit import MAX_PAGE
from ktrdr.api.auth import Operator
from ktrdr.api.errors import documented
from ktrdr.api.state import BackendState
from ktrdr.schemas import PLAIN_TEXT, AuditEntry

router = APIRouter(prefix="/audit", tags=["audit"])

Text = Annotated[str | None, Query(pattern=PLAIN_TEXT, max_length=300)]


@router.get("", responses=documented(401, 403, 422))
async def audit(
    _caller: Operator,
    state: BackendState,
    subject: Text = None,
    actor: Text = None,
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
) -> Sequence[AuditEntry]:
    """The newest entries; pass the last one's id as ``before`` to get the next."""
    return await state.audit.entries(subject=subject, actor=actor, before=before, limit=limit)
