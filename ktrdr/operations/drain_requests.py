"""Drain requests: workers and nodes that must not claim new operations."""

from __future__ import annotations

from collections.abc import Sequence

from ktrdr.access.audit import record_change
from ktrdr.database.pool import Pool, autocommit, transaction
from ktrdr.errors import NotFound
from ktrdr.operations.queries import QUERIES
from ktrdr.schemas import Drain, DrainMode
from ktrdr.tokens import Identity


class DrainStore:
    """Drain requests in the database; safe to share between tasks.

    A drain outlives the worker: it ends when an operator ends it, not when the worker restarts.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find_mode(self, targets: Sequence[str]) -> DrainMode | None:
        """Return how a worker is drained, or None if it is not.

        Args:
            targets: Worker's id and node.
        """
        async with autocommit(self._pool) as connection:
            row = await QUERIES.fetch_one(connection, "find_drain_mode", targets=list(targets))
        return DrainMode(row["mode"]) if row else None

    async def list_drains(self) -> list[Drain]:
        """Return all drains, sorted by worker or node."""
        async with autocommit(self._pool) as connection:
            return [Drain(**row) for row in await QUERIES.fetch_all(connection, "list_drains")]

    async def drain(self, target: str, mode: DrainMode, *, by: Identity) -> Drain:
        """Stop a worker, or all workers of a node, from claiming new operations."""
        async with transaction(self._pool) as connection:
            row = await QUERIES.fetch_one(
                connection, "insert_drain", target=target, mode=mode.value, requested_by=by.subject
            )
            await record_change(connection, by, "drain", target, {"mode": mode.value})
        assert row is not None  # noqa: S101  # an upsert always returns its row
        return Drain(**row)

    async def undrain(self, target: str, *, by: Identity) -> None:
        """Let a worker or node claim operations again.

        Raises:
            NotFound: The target is not drained.
        """
        async with transaction(self._pool) as connection:
            if await QUERIES.fetch_one(connection, "delete_drain", target=target) is None:
                raise NotFound(
                    f"{target} is not drained",
                    hint="`ktrdr workers list` shows which workers are drained.",
                )
            await record_change(connection, by, "undrain", target)
