"""Revoked tokens and the audit trail."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, Field

from ktrdr.schemas.base import RequestModel, ResponseModel


class TokenRevocation(RequestModel):
    """Body of ``POST /tokens/revoked``: the token's id, and when it expires."""

    token_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,200}$")]
    expires_at: AwareDatetime


class RevokedToken(ResponseModel):
    """Token that the backend no longer accepts."""

    token_id: str
    expires_at: datetime
    revoked_by: str
    revoked_at: datetime


class AuditEntry(ResponseModel):
    """Change, with its time and the caller that made it."""

    audit_id: int
    at: datetime
    actor: str
    role: str
    token_id: str
    action: str
    subject: str
    detail: dict[str, Any]
