"""Tokens that were revoked, and who changed what."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, Field

from ktrdr.schemas.base import Answer, Contract


class TokenRevocation(Contract):
    """The body of ``POST /tokens/revoked``: the token's id, and when it would have expired."""

    token_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,200}$")]
    expires_at: AwareDatetime


class RevokedToken(Answer):
    """A token that is not believed any more."""

    token_id: str
    expires_at: datetime
    revoked_by: str
    revoked_at: datetime


class AuditEntry(Answer):
    """Who changed what, and when."""

    audit_id: int
    at: datetime
    actor: str
    role: str
    token_id: str
    action: str
    subject: str
    detail: dict[str, Any]
