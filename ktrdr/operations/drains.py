"""Workers and nodes that are to take nothing new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ktrdr.access.audit import record
from ktrdr.database.pool import Pool, autocommit, transaction
from ktrdr.database.queries import query
from ktrdr.errors import NotFound
from ktrdr.schemas import Drain, DrainMode
from ktrdr.tokens import Identity

_ROOM = "ktrdr.operations"


class Drains:
    """What is drained; safe to share between tasks.

    A drain outlives the worker it is for: it ends when somebody says so, not when the worker is
    started again.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def of(self, targets: Sequence[str]) -> DrainMode | None:
        """How a worker is drained, by its id and its node; None if it is not."""
        async with autocommit(self._pool) as connection:
            cursor = await connection.execute(query(_ROOM, "drain_of"), {"targets": list(targets)})
            row = await cursor.fetchone()
        return DrainMode(row["mode"]) if row else None

    async def all(self) -> Mapping[str, Drain]:
        """All drains, by worker or node."""
        async with autocommit(self._pool) as connection:
            cursor = await connection.execute(query(_ROOM, "drains"))
            return {row["target"]: Drain(**row) for row in await cursor.fetchall()}

    async def start(self, target: str, mode: DrainMode, *, by: Identity) -> Drain:
        """Lets a worker or node take nothing new."""
        values = {"target": target, "mode": mode.value, "requested_by": by.subject}
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(query(_ROOM, "drain"), values)
            row = await cursor.fetchone()
            await record(connection, by, "drain", target, {"mode": mode.value})
        assert row is not None  # noqa: S101  # an upsert always returns its row
        return Drain(**row)

    async def end(self, target: str, *, by: Identity) -> None:
        """Lets it take work again.

        Raises:
            NotFound: It was not drained.
        """
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(query(_ROOM, "undrain"), {"target": target})
            if await cursor.fetchone() is None:
                raise NotFound(f"{target} is not drained")
            await record(connection, by, "undrain", target)
