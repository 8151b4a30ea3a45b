"""Revocation of tokens that are signed and have not expired."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from ktrdr.access.audit import QUERIES, record_change
from ktrdr.database.pool import Pool, autocommit, transaction
from ktrdr.errors import DatabaseUnavailable, SecretsError
from ktrdr.schemas import RevokedToken
from ktrdr.tokens import Identity

logger = logging.getLogger(__name__)

# A backend learns of another backend's revocations after this time, and of its own immediately.
RELOAD_EVERY_S: Final = 5.0


class RevocationList:
    """Revoked tokens, cached so that a request needs no query."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._expiry_by_token: dict[str, datetime] = {}

    def check(self, identity: Identity) -> None:
        """Reject a revoked token.

        Raises:
            SecretsError: The token was revoked.
        """
        if identity.token_id in self._expiry_by_token:
            raise SecretsError(
                "the token was revoked", hint="Create a new one with `ktrdr token create --save`."
            )

    async def revoke(self, token_id: str, expires_at: datetime, *, by: Identity) -> None:
        """Revoke a token immediately; repeating this changes nothing."""
        async with transaction(self._pool) as connection:
            await QUERIES.execute(connection, "delete_expired_revocations")
            await QUERIES.execute(
                connection,
                "insert_revocation",
                token_id=token_id,
                expires_at=expires_at,
                revoked_by=by.subject,
            )
            await record_change(connection, by, "token.revoke", token_id)
        self._expiry_by_token[token_id] = expires_at

    async def load(self) -> Sequence[RevokedToken]:
        """Load the revoked tokens from the database, and return them."""
        async with autocommit(self._pool) as connection:
            rows = await QUERIES.fetch_all(connection, "list_revocations")
        tokens = [RevokedToken(**row) for row in rows]
        now = datetime.now(UTC)
        cached = {token: expiry for token, expiry in self._expiry_by_token.items() if expiry > now}
        self._expiry_by_token = cached | {token.token_id: token.expires_at for token in tokens}
        return tokens

    async def run(self) -> None:
        """Reload the revoked tokens every few seconds until cancelled."""
        while True:
            await asyncio.sleep(RELOAD_EVERY_S)
            try:
                await self.load()
            except DatabaseUnavailable:
                logger.debug("cannot reload the revoked tokens: the database does not respond")
