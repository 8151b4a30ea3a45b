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
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from opentelemetry.trace import Status, StatusCode, get_current_span

from ktrdr.errors import DatabaseUnavailable, HostNotReady
from ktrdr.operations.drains import Drains
from ktrdr.operations.leases import LeaseBook, LeaseLost
from ktrdr.operations.model import Claim, Lease, Renewal, fault_of
from ktrdr.operations.settlement import Setback
from ktrdr.schemas import DrainMode, OperationFault, OperationStatus
from ktrdr.settings import WorkerSettings
from ktrdr.telemetry import metrics
from ktrdr.workers import memory
from ktrdr.workers.keeping import LeaseKeeper
from ktrdr.workers.messages import GO_ON, Done, Failed, Message, Paused, Progress, Saved, Task
from ktrdr.workers.observation import observed
from ktrdr.workers.process import Child, started, why_it_died
from ktrdr.workers.running import Running
from ktrdr.workers.storage import Workspace

logger = logging.getLogger(__name__)
T = TypeVar("T")

# Cancelling wants an end soon; the last checkpoint is enough to resume from.
CANCEL_PATIENCE_S: Final = 2.0
# So soon a worker that was drained goes on after that has ended.
DRAIN_LOOK_S: Final = 2.0


class Supervisor:
    """Runs the operations of one worker.

    Args:
        settings: The worker's.
        worker_id: Who it is.
        leases: What it claims operations through.
        drains: What it is told by that it is to take nothing new.
    """

    def __init__(
        self, settings: WorkerSettings, worker_id: str, leases: LeaseBook, drains: Drains
    ) -> None:
        self._settings = settings
        self._worker_id = worker_id
        self._drain_targets = (worker_id, settings.worker_public_base_url.host or "")
        self._leases = leases
        self._drains = drains
        self._keeper = LeaseKeeper(leases, settings.lease_s, self._drain_targets, self._heed)
        self._stopping = asyncio.Event()
        self.running: Running | None = None

    async def run(self, operation_id: str) -> None:
        """Runs an operation if it can be claimed; returns once it has ended or been handed back.

        Raises:
            DatabaseUnavailable: It stayed away for as long as a lease lasts.
        """
        claim = await self._patiently(
            lambda: self._leases.claim(
                operation_id,
                worker_id=self._worker_id,
                lease_s=self._settings.lease_s,
                drain_targets=self._drain_targets,
            )
        )
        if claim is None:
            if await self._patiently(self._is_drained):
                await self._patiently(lambda: self._leases.wake_another(operation_id))
                await self._until_undrained()
            return
        if self._stopping.is_set():
            await self._leases.hand_back(claim.lease)
            return
        with observed(claim) as outcome:
            outcome.status = await self._attempt(claim)

    def stop(self) -> None:
        """Takes nothing new, and has the running operation checkpoint and make way."""
        self._stopping.set()
        if self.running is not None:
            self.running.stop(OperationStatus.PENDING, self._settings.stop_grace_s)

    async def _is_drained(self) -> bool:
        return await self._drains.of(self._drain_targets) is not None

    async def _until_undrained(self) -> None:
        """Holds this worker's only place, so that it fetches nothing while it is drained."""
        logger.info("drained: this worker takes nothing new")
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_LOOK_S):
                    await self._stopping.wait()
            with contextlib.suppress(DatabaseUnavailable):
                if not await self._is_drained():
                    logger.info("not drained any more")
                    return

    async def _attempt(self, claim: Claim) -> OperationStatus | None:
        """Works on a claimed operation; gives what became of it, None when it is another's now."""
        workspace = Workspace(self._settings.shared_mount_path, claim.lease)
        self.running = Running(claim.lease.operation_id, claim.operation_type, workspace)
        try:
            return await self._tried(claim, self.running)
        except LeaseLost as exc:
            logger.warning("lease lost: %s", exc)
            metrics.lease_losses.inc()
            return None
        finally:
            self.running = None
            await asyncio.to_thread(workspace.clean_up)

    async def _tried(self, claim: Claim, running: Running) -> OperationStatus:
        try:
            await asyncio.to_thread(running.workspace.prepare)
            return await self._work(claim, running, running.workspace)
        except HostNotReady as exc:
            return await self._set_back(claim.lease, Setback.TRANSIENT, fault_of(exc))

    async def _work(self, claim: Claim, running: Running, workspace: Workspace) -> OperationStatus:
        task = await self._task(claim, workspace)
        heading = f"attempt {claim.attempt} on {self._worker_id}, {datetime.now(UTC):%F %T} UTC"
        with workspace.opened_log(heading) as log:
            async with started(task, log) as child, self._keeper.kept(claim.lease, running):
                running.child = child
                if self._stopping.is_set():
                    running.stop(OperationStatus.PENDING, self._settings.stop_grace_s)
                last = await self._follow(claim, running, child)
                exit_code = await child.exit_code()
                result = await self._publish(claim.lease, workspace, last)
        if result is not None:
            await self._persist(lambda: self._leases.complete(claim.lease, result))
            await asyncio.to_thread(workspace.finish)
            return OperationStatus.COMPLETED
        return await self._settle(claim.lease, running, last, exit_code)

    async def _task(self, claim: Claim, workspace: Workspace) -> Task:
        found = await self._leases.last_checkpoint(claim.lease)
        checkpoint = None
        if found is not None:
            point, directory = found
            path = str(workspace.shared / directory) if directory else None
            checkpoint = (point.step, dict(point.state), path)
        parts = await self._leases.parts(claim.lease)
        return Task(
            operation_id=claim.lease.operation_id,
            operation_type=claim.operation_type.value,
            parameters=claim.parameters.model_dump(mode="json"),
            shared=str(workspace.shared),
            output=str(workspace.output),
            staging=str(workspace.staging),
            checkpoint=checkpoint,
            parts=[asdict(part) for part in parts],
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
        if isinstance(last, Failed) and last.transient:
            return await self._set_back(lease, Setback.TRANSIENT, last.to_fault())
        if isinstance(last, Failed):
            return await self._fail(lease, last.to_fault())
        if running.stop_reason is OperationStatus.CANCELLED:
            await self._persist(lambda: self._leases.cancelled(lease))
            return OperationStatus.CANCELLED
        if isinstance(last, Paused) or running.stop_reason is OperationStatus.PENDING:
            return await self._persist(lambda: self._leases.hand_back(lease))
        fault = why_it_died(exit_code, running.workspace.log)
        return await self._set_back(lease, Setback.DEATH, fault)

    async def _set_back(
        self, lease: Lease, setback: Setback, fault: OperationFault
    ) -> OperationStatus:
        logger.warning("%s: %s", lease.operation_id, fault.message)
        if self.running is not None:
            metrics.setbacks.labels(self.running.operation_type.value, setback.value).inc()
        return await self._persist(lambda: self._leases.set_back(lease, setback, fault))

    async def _fail(self, lease: Lease, fault: OperationFault) -> OperationStatus:
        logger.warning("%s failed: %s", lease.operation_id, fault.message)
        get_current_span().set_status(Status(StatusCode.ERROR, fault.message))
        await self._persist(lambda: self._leases.fail(lease, fault))
        return OperationStatus.FAILED

    def _heed(self, running: Running, wanted: Renewal) -> None:
        if wanted.cancel:
            running.stop(OperationStatus.CANCELLED, CANCEL_PATIENCE_S)
        elif wanted.drain is DrainMode.HAND_OVER:
            running.stop(OperationStatus.PENDING, self._settings.stop_grace_s)

    async def _persist(self, write: Callable[[], Awaitable[T]]) -> T:
        """Repeats a write while the database is away, for as long as the lease may last.

        Raises:
            LeaseLost: It was away for longer.
        """
        try:
            return await self._patiently(write)
        except DatabaseUnavailable as exc:
            raise LeaseLost("the database was away too long") from exc

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeats a call while the database is away, for as long as a lease lasts.

        Raises:
            DatabaseUnavailable: It was away for longer.
        """
        deadline = time.monotonic() + self._settings.lease_s
        while True:
            try:
                return await call()
            except DatabaseUnavailable:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.5)
