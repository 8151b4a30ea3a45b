"""Finds and removes the files that killed workers have left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ktrdr.errors import HostNotReady
from ktrdr.operations import leftovers
from ktrdr.operations.leftovers import Leftover
from ktrdr.operations.store import OperationStore


async def sweep(store: OperationStore, shared: Path, *, dry_run: bool = False) -> list[Leftover]:
    """Removes what nobody needs any more, and gives it.

    Args:
        store: Knows what has become of the operations.
        shared: The shared directory.
        dry_run: Whether to leave everything where it is.

    Raises:
        HostNotReady: The shared directory cannot be searched.
    """
    try:
        found = await asyncio.to_thread(leftovers.find, shared)
        known = await store.epochs(sorted({each.operation_id for each in found}))
        stale = leftovers.stale(found, known)
        if not dry_run:
            await asyncio.to_thread(leftovers.remove, stale)
    except OSError as exc:
        raise HostNotReady(
            f"the shared directory {shared} cannot be searched ({exc.strerror})",
            hint="Check that it is mounted and belongs to user 10001.",
        ) from exc
    return stale
