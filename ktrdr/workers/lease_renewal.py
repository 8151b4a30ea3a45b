"""Renewal of the lease while its operation runs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from ktrdr.errors import DatabaseUnavailable
from ktrdr.operations.leases import LeaseLost, LeaseStore
from ktrdr.operations.model import Lease, Renewal
from ktrdr.workers.process import CurrentOperation

# Frequent enough to notice a cancel request within seconds, and rare enough to cost little.
RENEW_EVERY_S: Final = 1.5


class LeaseRenewer:
    """Periodic renewal of leases.

    Args:
        leases: Leases in the database.
        lease_s: Duration of a lease in seconds.
        drain_targets: Worker's id and node.
        on_renewal: Function that is called after every renewal.
    """

    def __init__(
        self,
        leases: LeaseStore,
        lease_s: float,
        drain_targets: Sequence[str],
        on_renewal: Callable[[CurrentOperation, Renewal], None],
    ) -> None:
        self._leases = leases
        self._lease_s = lease_s
        self._drain_targets = drain_targets
        self._on_renewal = on_renewal

    @asynccontextmanager
    async def renewing(self, lease: Lease, current: CurrentOperation) -> AsyncIterator[None]:
        """Renew a lease during the block.

        Raises:
            LeaseLost: The lease was lost, and the child has been killed.
        """
        task = asyncio.create_task(self._renew_forever(lease, current))
        try:
            yield
        finally:
            if task.done():
                task.result()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _renew_forever(self, lease: Lease, current: CurrentOperation) -> None:
        renewed_at = time.monotonic()
        while True:
            await asyncio.sleep(min(RENEW_EVERY_S, self._lease_s / 3))
            try:
                renewal = await self._leases.renew(
                    lease,
                    lease_s=self._lease_s,
                    progress=current.progress,
                    message=current.message,
                    drain_targets=self._drain_targets,
                )
            except DatabaseUnavailable as exc:
                # Until the lease expires, no other worker can have claimed the operation.
                if time.monotonic() - renewed_at < self._lease_s:
                    continue
                current.kill()
                raise LeaseLost(
                    f"{lease.operation_id}: the database was unavailable for too long"
                ) from exc
            except LeaseLost:
                current.kill()
                raise
            renewed_at = time.monotonic()
            self._on_renewal(current, renewal)
