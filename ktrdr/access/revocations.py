"""Tokens that are not to be believed although they are signed and have not expired."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from ktrdr.access.audit import record
from ktrdr.database.pool import Pool, autocommit, transaction
from ktrdr.database.queries import query
from ktrdr.errors import DatabaseUnavailable, SecretsError
from ktrdr.schemas import RevokedToken
from ktrdr.tokens import Identity

logger = logging.getLogger(__name__)

# So late a revocation through one backend is noticed by another; its own it knows at once.
LOOK_EVERY_S: Final = 5.0


class Revocations:
    """The revoked tokens, known without asking the database for every request."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._revoked: dict[str, datetime] = {}

    def check(self, identity: Identity) -> None:
        """Lets a token that was not revoked pass.

        Raises:
            SecretsError: It was.
        """
        if identity.token_id in self._revoked:
            raise SecretsError(
                "the token was revoked", hint="Make a new one with `ktrdr token create`."
            )

    async def revoke(self, token_id: str, expires_at: datetime, *, by: Identity) -> None:
        """Revokes a token from this moment on; again is harmless."""
        values = {"token_id": token_id, "expires_at": expires_at, "revoked_by": by.subject}
        async with transaction(self._pool) as connection:
            await connection.execute(query("ktrdr.access", "forget_expired"))
            await connection.execute(query("ktrdr.access", "revoke"), values)
            await record(connection, by, "token.revoke", token_id)
        self._revoked[token_id] = expires_at

    async def load(self) -> Sequence[RevokedToken]:
        """Reads what is revoked."""
        async with autocommit(self._pool) as connection:
            cursor = await connection.execute(query("ktrdr.access", "revoked"))
            found = [RevokedToken(**row) for row in await cursor.fetchall()]
        now = datetime.now(UTC)
        known = {token: until for token, until in self._revoked.items() if until > now}
        self._revoked = known | {each.token_id: each.expires_at for each in found}
        return found

    async def run(self) -> None:
        """Keeps up with what is revoked elsewhere, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.load()
            except DatabaseUnavailable:
                logger.debug("what is revoked is as it was when the database was last there")
