"""The audit trail: a row for every change, written in the transaction that makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from psycopg.types.json import Jsonb

from ktrdr.database.pool import Connection, Pool, autocommit
from ktrdr.database.queries import query
from ktrdr.schemas import AuditEntry
from ktrdr.tokens import Identity

MAX_PAGE: Final = 500


async def record(
    connection: Connection,
    by: Identity,
    action: str,
    subject: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Notes within the caller's transaction who changes what.

    Args:
        connection: The one the change is made on.
        by: Whose token it was.
        action: What is done, such as ``operation.cancel``.
        subject: What it is done to: an id or a name.
        detail: What else matters; never a secret.
    """
    await connection.execute(
        query("ktrdr.access", "add"),
        {
            "actor": by.subject,
            "role": by.role.value,
            "token_id": by.token_id,
            "action": action,
            "subject": subject,
            "detail": Jsonb(dict(detail or {})),
        },
    )


class AuditTrail:
    """What was changed by whom; safe to share between tasks."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def note(
        self, by: Identity, action: str, subject: str, detail: Mapping[str, Any] | None = None
    ) -> None:
        """Notes a change that is not made in the database, after it was made."""
        async with autocommit(self._pool) as connection:
            await record(connection, by, action, subject, detail)

    async def entries(
        self,
        *,
        subject: str | None = None,
        actor: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> Sequence[AuditEntry]:
        """The newest entries, or those before the entry ``before``."""
        values = {"subject": subject, "actor": actor, "before": before, "limit": limit}
        async with autocommit(self._pool) as connection:
            cursor = await connection.execute(query("ktrdr.access", "entries"), values)
            return [AuditEntry(**row) for row in await cursor.fetchall()]
