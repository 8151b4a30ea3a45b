"""Audit trail: a row for every change, written in the transaction that makes the change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from psycopg.types.json import Jsonb

from ktrdr.database.pool import Connection, Pool, autocommit
from ktrdr.database.queries import QuerySet
from ktrdr.schemas import AuditEntry
from ktrdr.tokens import Identity

QUERIES: Final = QuerySet("ktrdr.access")
MAX_PAGE: Final = 500


async def record_change(
    connection: Connection,
    by: Identity,
    action: str,
    subject: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Record a change within the caller's transaction.

    Args:
        connection: Connection that makes the change.
        by: Caller that makes the change.
        action: Kind of change, such as ``operation.cancel``.
        subject: Id or name of the changed thing.
        detail: Further details; never a secret.
    """
    await QUERIES.execute(
        connection,
        "insert_entry",
        actor=by.subject,
        role=by.role.value,
        token_id=by.token_id,
        action=action,
        subject=subject,
        detail=Jsonb(dict(detail or {})),
    )


class AuditTrail:
    """Recorded changes; safe to share between tasks."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def record(
        self, by: Identity, action: str, subject: str, detail: Mapping[str, Any] | None = None
    ) -> None:
        """Record a change that was made outside the database, after it was made."""
        async with autocommit(self._pool) as connection:
            await record_change(connection, by, action, subject, detail)

    async def list_entries(
        self,
        *,
        subject: str | None = None,
        actor: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> Sequence[AuditEntry]:
        """Return the newest entries, or those before the entry ``before``."""
        async with autocommit(self._pool) as connection:
            rows = await QUERIES.fetch_all(
                connection, "list_entries", subject=subject, actor=actor, before=before, limit=limit
            )
        return [AuditEntry(**row) for row in rows]
