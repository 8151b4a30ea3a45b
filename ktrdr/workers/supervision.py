"""Runs one operation at a time: claim, child, lease, checkpoints, result.

The parent holds the lease and the child does the work. Whatever happens to either, the operation's
row ends up right: the child is killed as soon as the lease is lost, and a lost parent's lease runs
out by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from opentelemetry.trace import Status, StatusCode, get_current_span

from ktrdr.contracts import OperationFault, OperationStatus, OperationType
from ktrdr.errors import DatabaseUnavailable, HostNotReady
from ktrdr.operations.leases import LeaseBook, LeaseLost
from ktrdr.operations.model import Claim, Lease, fault_of
from ktrdr.settings import WorkerSettings
from ktrdr.telemetry import metrics
from ktrdr.workers import memory
from ktrdr.workers.messages import GO_ON, Done, Failed, Message, Paused, Progress, Saved, Task
from ktrdr.workers.observation import observed
from ktrdr.workers.process import Child, started, why_it_died
from ktrdr.workers.storage import Workspace

logger = logging.getLogger(__name__)
T = TypeVar("T")

# Often enough that a cancellation is noticed within seconds, seldom enough not to matter.
RENEW_EVERY_S: Final = 2.0
# Cancelling wants an end soon; the last checkpoint is enough to resume from.
CANCEL_PATIENCE_S: Final = 3.0


@dataclass(slots=True)
class Running:
    """The operation that runs now.

    Attributes:
        stop_reason: What it is to become once the child has stopped: pending when the worker makes
            way, cancelled when somebody wants that; None while it just runs.
    """

    operation_id: str
    operation_type: OperationType
    workspace: Workspace
    child: Child | None = None
    progress: float | None = None
    message: str | None = None
    stop_reason: OperationStatus | None = None

    def stop(self, reason: OperationStatus, patience_s: float) -> None:
        """Asks the child to stop after its next checkpoint; kills it when that takes too long."""
        if self.stop_reason is None:
            self.stop_reason = reason
            if self.child is not None:
                self.child.ask_to_stop()
                asyncio.get_running_loop().call_later(patience_s, self.child.kill)


class Supervisor:
    """Runs the operations of one worker."""

    def __init__(self, settings: WorkerSettings, worker_id: str, leases: LeaseBook) -> None:
        self._settings = settings
        self._worker_id = worker_id
        self._leases = leases
        self._stopping = False
        self.running: Running | None = None

    async def run(self, operation_id: str) -> None:
        """Runs an operation if it can be claimed; returns once it has ended or been handed back."""
        claim = await self._leases.claim(
            operation_id, worker_id=self._worker_id, lease_s=self._settings.lease_s
        )
        if claim is None:
            return
        if self._stopping:
            await self._leases.hand_back(claim.lease)
            return
        with observed(claim) as outcome:
            outcome.status = await self._attempt(claim)

    def stop(self) -> None:
        """Takes nothing new, and has the running operation checkpoint and make way."""
        self._stopping = True
        if self.running is not None:
            self.running.stop(OperationStatus.PENDING, self._settings.stop_grace_s)

    async def _attempt(self, claim: Claim) -> OperationStatus | None:
        """Works on a claimed operation; gives what became of it, None when it is another's now."""
        workspace = Workspace(self._settings.shared_mount_path, claim.lease)
        self.running = Running(claim.lease.operation_id, claim.operation_type, workspace)
        try:
            await asyncio.to_thread(workspace.prepare)
            return await self._work(claim, self.running, workspace)
        except LeaseLost as exc:
            logger.warning("lease lost: %s", exc)
            metrics.lease_losses.inc()
            return None
        except HostNotReady as exc:
            return await self._fail(claim.lease, fault_of(exc))
        finally:
            self.running = None
            await asyncio.to_thread(workspace.clean_up)

    async def _work(self, claim: Claim, running: Running, workspace: Workspace) -> OperationStatus:
        task = await self._task(claim, workspace)
        with workspace.log.open("ab") as log:
            async with started(task, log) as child, self._kept(claim.lease, running):
                running.child = child
                if self._stopping:
                    running.stop(OperationStatus.PENDING, self._settings.stop_grace_s)
                last = await self._follow(claim, running, child)
                exit_code = await child.exit_code()
                result = await self._publish(claim.lease, workspace, last)
        if result is not None:
            await self._persist(lambda: self._leases.complete(claim.lease, result))
            await asyncio.to_thread(workspace.drop_checkpoints)
            return OperationStatus.COMPLETED
        return await self._settle(claim.lease, running, last, exit_code)

    async def _task(self, claim: Claim, workspace: Workspace) -> Task:
        found = await self._leases.last_checkpoint(claim.lease)
        checkpoint = None
        if found is not None:
            point, directory = found
            path = str(self._settings.shared_mount_path / directory) if directory else None
            checkpoint = (point.step, dict(point.state), path)
        return Task(
            operation_id=claim.lease.operation_id,
            operation_type=claim.operation_type.value,
            parameters=claim.parameters.model_dump(mode="json"),
            data=str(workspace.data),
            output=str(workspace.output),
            staging=str(workspace.staging),
            checkpoint=checkpoint,
            memory=memory.allowance(self._settings.child_memory_mb),
        )

    async def _follow(self, claim: Claim, running: Running, child: Child) -> Message | None:
        """Reads the child's messages up to the last; None if it died without one."""
        async for message in child.messages():
            match message:
                case Progress():
                    running.progress, running.message = message.fraction, message.message
                case Saved():
                    await self._save(claim, running, message)
                    child.send(GO_ON)
                case _:
                    return message
        return None

    async def _save(self, claim: Claim, running: Running, saved: Saved) -> None:
        """Makes a checkpoint count: first its files, then the row that points at them."""
        workspace, kept = running.workspace, None
        if saved.directory is not None:
            kept = await asyncio.to_thread(workspace.keep_checkpoint, saved.step, saved.directory)
        await self._persist(
            lambda: self._leases.checkpoint(
                claim.lease, step=saved.step, state=saved.state, directory=kept
            )
        )
        await asyncio.to_thread(workspace.drop_checkpoints, keep=kept)
        metrics.checkpoints.labels(claim.operation_type.value).inc()
        metrics.last_checkpoint.set_to_current_time()

    async def _publish(
        self, lease: Lease, workspace: Workspace, last: Message | None
    ) -> dict[str, Any] | None:
        """Gives the files their final names, if the work is done and still ours to publish."""
        if not isinstance(last, Done):
            return None
        await self._persist(
            lambda: self._leases.renew(
                lease, lease_s=self._settings.lease_s, progress=None, message="publishing"
            )
        )
        return await asyncio.to_thread(workspace.publish, last.summary, last.report, last.model)

    async def _settle(
        self, lease: Lease, running: Running, last: Message | None, exit_code: int
    ) -> OperationStatus:
        """Ends an operation that has no result."""
        if isinstance(last, Failed):
            await asyncio.to_thread(running.workspace.keep_log)
            return await self._fail(lease, last.to_fault())
        if running.stop_reason is OperationStatus.CANCELLED:
            await self._persist(lambda: self._leases.cancelled(lease))
            return OperationStatus.CANCELLED
        if isinstance(last, Paused) or running.stop_reason is OperationStatus.PENDING:
            await self._persist(lambda: self._leases.hand_back(lease))
            return OperationStatus.PENDING
        fault = why_it_died(exit_code, running.workspace.log)
        logger.warning("%s: %s", lease.operation_id, fault.message)
        await asyncio.to_thread(running.workspace.keep_log)
        return await self._persist(lambda: self._leases.died(lease, fault))

    async def _fail(self, lease: Lease, fault: OperationFault) -> OperationStatus:
        logger.warning("%s failed: %s", lease.operation_id, fault.message)
        get_current_span().set_status(Status(StatusCode.ERROR, fault.message))
        await self._persist(lambda: self._leases.fail(lease, fault))
        return OperationStatus.FAILED

    @asynccontextmanager
    async def _kept(self, lease: Lease, running: Running) -> AsyncIterator[None]:
        """Renews the lease all through the block.

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
            await asyncio.sleep(min(RENEW_EVERY_S, self._settings.lease_s / 3))
            try:
                cancel = await self._leases.renew(
                    lease,
                    lease_s=self._settings.lease_s,
                    progress=running.progress,
                    message=running.message,
                )
            except DatabaseUnavailable as exc:
                # Until the lease has run out nobody else can have claimed it.
                if time.monotonic() - renewed < self._settings.lease_s:
                    continue
                self._kill(running)
                raise LeaseLost(f"{lease.operation_id}: the database was away too long") from exc
            except LeaseLost:
                self._kill(running)
                raise
            renewed = time.monotonic()
            if cancel:
                running.stop(OperationStatus.CANCELLED, CANCEL_PATIENCE_S)

    def _kill(self, running: Running) -> None:
        if running.child is not None:
            running.child.kill()

    async def _persist(self, write: Callable[[], Awaitable[T]]) -> T:
        """Repeats a write while the database is away, for as long as the lease may last.

        Raises:
            LeaseLost: It was away for longer.
        """
        deadline = time.monotonic() + self._settings.lease_s
        while True:
            try:
                return await write()
            except DatabaseUnavailable as exc:
                if time.monotonic() > deadline:
                    raise LeaseLost("the database was away too long") from exc
                await asyncio.sleep(0.5)
