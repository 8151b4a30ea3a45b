"""Keeps a lease while the work under it goes on, and acts on what is wanted of its holder."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from ktrdr.errors import DatabaseUnavailable
from ktrdr.operations.leases import LeaseBook, LeaseLost
from ktrdr.operations.model import Lease, Renewal
from ktrdr.workers.running import Running

# Often enough that a cancellation is noticed within seconds, seldom enough not to matter.
RENEW_EVERY_S: Final = 1.5


class LeaseKeeper:
    """Renews leases on a timer.

    Args:
        leases: Where they are kept.
        lease_s: How long one lasts.
        drain_targets: The worker's id and node.
        heed: Is told after every renewal what is wanted.
    """

    def __init__(
        self,
        leases: LeaseBook,
        lease_s: float,
        drain_targets: Sequence[str],
        heed: Callable[[Running, Renewal], None],
    ) -> None:
        self._leases = leases
        self._lease_s = lease_s
        self._drain_targets = drain_targets
        self._heed = heed

    @asynccontextmanager
    async def kept(self, lease: Lease, running: Running) -> AsyncIterator[None]:
        """Renews a lease all through the block.

        Raises:
            LeaseLost: It was lost; the child has been killed.
        """
        keeper = asyncio.create_task(self._keep(lease, running))
        try:
            yield
        finally:
            if keeper.done():
                keeper.result()
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper

    async def _keep(self, lease: Lease, running: Running) -> None:
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(min(RENEW_EVERY_S, self._lease_s / 3))
            try:
                wanted = await self._leases.renew(
                    lease,
                    lease_s=self._lease_s,
                    progress=running.progress,
                    message=running.message,
                    drain_targets=self._drain_targets,
                )
            except DatabaseUnavailable as exc:
                # Until the lease has run out nobody else can have claimed it.
                if time.monotonic() - renewed < self._lease_s:
                    continue
                running.kill()
                raise LeaseLost(f"{lease.operation_id}: the database was away too long") from exc
            except LeaseLost:
                running.kill()
                raise
            renewed = time.monotonic()
            self._heed(running, wanted)
