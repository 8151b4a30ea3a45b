"""Supervision of one operation at a time: claim, child process, lease, checkpoints, result.

The worker holds the lease and its child process computes. If either dies, the operation's row
stays correct: the child is killed as soon as the lease is lost, and the lease of a dead worker
expires.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final, TypeVar

from opentelemetry.trace import Status, StatusCode, get_current_span

from ktrdr.errors import DatabaseUnavailable, HostNotReady
from ktrdr.operations.drain_requests import DrainStore
from ktrdr.operations.leases import LeaseLost, LeaseStore
from ktrdr.operations.model import Claim, Lease, Renewal, to_error_detail
from ktrdr.operations.retry import FailureKind
from ktrdr.operations.shared_directory import SharedDirectory
from ktrdr.schemas import DrainMode, ErrorDetail, OperationStatus
from ktrdr.settings import WorkerSettings
from ktrdr.telemetry import metrics
from ktrdr.workers.child_check import ChildCheck
from ktrdr.workers.instrumentation import instrumented
from ktrdr.workers.lease_renewal import LeaseRenewer
from ktrdr.workers.memory import child_memory_limit
from ktrdr.workers.messages import (
    CONTINUE,
    CheckpointSaved,
    ChildMessage,
    ChildTask,
    ProgressReported,
    TaskCompleted,
    TaskFailed,
    TaskStopped,
)
from ktrdr.workers.process import ChildProcess, CurrentOperation, explain_exit, start_child
from ktrdr.workers.registration import is_in_catalogue
from ktrdr.workers.storage import Workspace

logger = logging.getLogger(__name__)
T = TypeVar("T")

# A cancelled operation must end soon; its last checkpoint is enough to resume from.
CANCEL_TIMEOUT_S: Final = 2.0
# A worker that may not claim operations notices after this time that it may again.
CLAIM_POLL_S: Final = 2.0


class Supervisor:
    """Supervisor that runs the operations of one worker.

    Args:
        settings: Settings of the worker.
        worker_id: Id of the worker.
        leases: Leases in the database.
        drains: Drain requests in the database.
        shared: The shared directory.
        child_check: Check whether a child process can be started.

    Attributes:
        current: Operation that runs, or None.
        is_serving: Whether this worker has taken an entry of the queue, and so asks for no other.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        worker_id: str,
        leases: LeaseStore,
        drains: DrainStore,
        shared: SharedDirectory,
        child_check: ChildCheck,
    ) -> None:
        self._settings = settings
        self._worker_id = worker_id
        self._drain_targets = (worker_id, settings.worker_public_base_url.host or "")
        self._leases = leases
        self._drains = drains
        self._shared = shared
        self._child_check = child_check
        self._renewer = LeaseRenewer(
            leases, settings.lease_s, self._drain_targets, self._handle_renewal
        )
        self._stopping = asyncio.Event()
        self.current: CurrentOperation | None = None
        self.is_serving = False

    async def run(self, operation_id: str) -> None:
        """Run an operation if it can be claimed; return once it has ended or been requeued.

        Raises:
            DatabaseUnavailable: The database was unavailable for the duration of a lease.
        """
        self.is_serving = True
        try:
            await self._run(operation_id)
        finally:
            self.is_serving = False

    async def _run(self, operation_id: str) -> None:
        if await self._is_unfit():
            await self._pass_on(operation_id)
            return
        claim = await self._retry_while_unavailable(
            lambda: self._leases.claim(
                operation_id,
                worker_id=self._worker_id,
                lease_s=self._settings.lease_s,
                drain_targets=self._drain_targets,
            )
        )
        if claim is None:
            if await self._retry_while_unavailable(self._is_drained):
                await self._pass_on(operation_id)
            return
        if self._stopping.is_set():
            await self._leases.requeue(claim.lease)
            return
        with instrumented(claim) as outcome:
            outcome.status = await self._run_attempt(claim)

    def stop(self) -> None:
        """Claim nothing new, and have the running operation saved and requeued."""
        self._stopping.set()
        if self.current is not None:
            self.current.stop(OperationStatus.PENDING, self._settings.stop_grace_s)

    async def _is_unfit(self) -> bool:
        """Return whether an operation would fail here for a fault of this host."""
        await self._shared.check()
        return bool(self._shared.unfit or self._child_check.problem)

    async def _is_drained(self) -> bool:
        return await self._drains.find_mode(self._drain_targets) is not None

    async def _pass_on(self, operation_id: str) -> None:
        """Wake another worker, and fetch no queue entry while this one is drained or not ready."""
        await self._retry_while_unavailable(lambda: self._leases.wake_another_worker(operation_id))
        logger.info("drained or not ready: this worker claims no new operations")
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLAIM_POLL_S):
                    await self._stopping.wait()
            with contextlib.suppress(DatabaseUnavailable):
                if not (await self._is_unfit() or await self._is_drained()):
                    logger.info("this worker claims operations again")
                    return

    async def _run_attempt(self, claim: Claim) -> OperationStatus | None:
        """Run a claimed operation; return its new status, or None if the lease was lost."""
        workspace = Workspace(self._settings.shared_mount_path, claim.lease)
        current = CurrentOperation(claim.lease.operation_id, claim.operation_type, workspace)
        self.current = current
        try:
            try:
                await asyncio.to_thread(workspace.create_directories)
                return await self._run_child(claim, current)
            except HostNotReady as exc:
                self._shared.suspect()
                return await self._retry_or_fail(
                    claim.lease, current, FailureKind.TRANSIENT, to_error_detail(exc)
                )
        except LeaseLost as exc:
            logger.warning("lease lost: %s", exc)
            metrics.lease_losses.inc()
            return None
        finally:
            self.current = None
            await asyncio.to_thread(workspace.clean_up)

    async def _run_child(self, claim: Claim, current: CurrentOperation) -> OperationStatus:
        workspace = current.workspace
        task = await self._make_task(claim, workspace)
        heading = f"attempt {claim.attempt} on {self._worker_id}, {datetime.now(UTC):%F %T} UTC"
        with workspace.open_log(heading) as log:
            async with (
                self._start_child(task, log) as child,
                self._renewer.renewing(claim.lease, current),
            ):
                current.set_child(child, self._settings.stop_grace_s)
                last = await self._process_messages(claim, current, child)
                exit_code = await child.wait()
                result = await self._publish(claim.lease, workspace, last)
        if result is not None:
            await self._persist(lambda: self._leases.complete(claim.lease, result))
            await asyncio.to_thread(workspace.finish)
            return OperationStatus.COMPLETED
        if isinstance(last, TaskFailed):
            await self._require_files(claim, last)
        return await self._end_without_result(claim.lease, current, last, exit_code)

    @asynccontextmanager
    async def _start_child(self, task: ChildTask, log: BinaryIO) -> AsyncIterator[ChildProcess]:
        async with AsyncExitStack() as stack:
            try:
                child = await stack.enter_async_context(start_child(task, log))
            except OSError as exc:
                raise self._child_check.suspect(exc.strerror or type(exc).__name__) from exc
            yield child

    async def _make_task(self, claim: Claim, workspace: Workspace) -> ChildTask:
        checkpoint = None
        stored = await self._leases.get_checkpoint(claim.lease)
        if stored is not None:
            point, directory = stored
            path = str(workspace.shared / directory) if directory else None
            checkpoint = (point.step, dict(point.state), path)
        children = await self._leases.list_child_results(claim.lease)
        return ChildTask(
            operation_id=claim.lease.operation_id,
            operation_type=claim.operation_type.value,
            parameters=claim.parameters.model_dump(mode="json"),
            shared=str(workspace.shared),
            output=str(workspace.output),
            staging=str(workspace.staging),
            checkpoint=checkpoint,
            children=[asdict(child) for child in children],
            memory_limit=child_memory_limit(self._settings.child_memory_mb),
        )

    async def _process_messages(
        self, claim: Claim, current: CurrentOperation, child: ChildProcess
    ) -> ChildMessage | None:
        """Process the child's messages; return the last one, or None if the child died."""
        async for message in child.messages():
            match message:
                case ProgressReported():
                    current.progress, current.message = message.fraction, message.message
                case CheckpointSaved():
                    await self._save_checkpoint(claim, current.workspace, message)
                    child.send(CONTINUE)
                case _:
                    return message
        return None

    async def _save_checkpoint(
        self, claim: Claim, workspace: Workspace, message: CheckpointSaved
    ) -> None:
        """Keep a checkpoint's files, then record it in the row that refers to them."""
        directory = None
        if message.directory is not None:
            directory = await asyncio.to_thread(
                workspace.keep_checkpoint, message.step, message.directory
            )
            await self._shared.require()
        await self._persist(
            lambda: self._leases.save_checkpoint(
                claim.lease, step=message.step, state=message.state, directory=directory
            )
        )
        await asyncio.to_thread(workspace.delete_checkpoints, keep=directory)
        metrics.checkpoints.labels(claim.operation_type.value).inc()
        metrics.last_checkpoint.set_to_current_time()

    async def _publish(
        self, lease: Lease, workspace: Workspace, last: ChildMessage | None
    ) -> dict[str, Any] | None:
        """Publish the result of a completed task under a renewed lease; otherwise return None."""
        if not isinstance(last, TaskCompleted):
            return None
        await self._persist(
            lambda: self._leases.renew(
                lease, lease_s=self._settings.lease_s, progress=None, message="publishing"
            )
        )
        result = await asyncio.to_thread(workspace.publish, last.summary, last.report, last.model)
        await self._shared.require()
        return result

    async def _require_files(self, claim: Claim, failed: TaskFailed) -> None:
        """Check that a task did not fail for a file that is missing only here, or only now.

        Raises:
            HostNotReady: A retry may succeed.
        """
        await self._shared.require()
        if failed.is_dataset_missing and await is_in_catalogue(self._settings, claim.parameters):
            raise HostNotReady(
                f"{claim.parameters.symbol} {claim.parameters.timeframe} is not in this worker's "
                "shared directory yet",
                hint="NFS may show new files late. Otherwise check the mount of the worker's host.",
            )

    async def _end_without_result(
        self, lease: Lease, current: CurrentOperation, last: ChildMessage | None, exit_code: int
    ) -> OperationStatus:
        if isinstance(last, TaskFailed):
            error = last.to_error_detail()
            if last.is_transient:
                self._shared.suspect()
                return await self._retry_or_fail(lease, current, FailureKind.TRANSIENT, error)
            logger.warning("%s failed: %s", lease.operation_id, error.message)
            get_current_span().set_status(Status(StatusCode.ERROR, error.message))
            await self._persist(lambda: self._leases.fail(lease, error))
            return OperationStatus.FAILED
        if current.stop_reason is OperationStatus.CANCELLED:
            await self._persist(lambda: self._leases.mark_cancelled(lease))
            return OperationStatus.CANCELLED
        if isinstance(last, TaskStopped) or current.stop_reason is OperationStatus.PENDING:
            return await self._persist(lambda: self._leases.requeue(lease))
        error = explain_exit(exit_code, current.workspace.log)
        if current.progress is None and error.kind != "killed":
            self._child_check.suspect(error.message)
        return await self._retry_or_fail(lease, current, FailureKind.DEATH, error)

    async def _retry_or_fail(
        self, lease: Lease, current: CurrentOperation, failure: FailureKind, error: ErrorDetail
    ) -> OperationStatus:
        logger.warning("%s: %s", lease.operation_id, error.message)
        metrics.attempt_failures.labels(current.operation_type.value, failure.value).inc()
        return await self._persist(lambda: self._leases.retry_or_fail(lease, failure, error))

    def _handle_renewal(self, current: CurrentOperation, renewal: Renewal) -> None:
        if renewal.is_cancel_requested:
            current.stop(OperationStatus.CANCELLED, CANCEL_TIMEOUT_S)
        elif renewal.drain_mode is DrainMode.HAND_OVER:
            current.stop(OperationStatus.PENDING, self._settings.stop_grace_s)

    async def _persist(self, write: Callable[[], Awaitable[T]]) -> T:
        """Retry a write under a lease while the database is unavailable.

        Raises:
            LeaseLost: The database was unavailable for the duration of a lease.
        """
        try:
            return await self._retry_while_unavailable(write)
        except DatabaseUnavailable as exc:
            raise LeaseLost("the database was unavailable for too long") from exc

    async def _retry_while_unavailable(self, call: Callable[[], Awaitable[T]]) -> T:
        """Retry a call while the database is unavailable, for the duration of a lease.

        Raises:
            DatabaseUnavailable: The database was unavailable for longer.
        """
        deadline = time.monotonic() + self._settings.lease_s
        while True:
            try:
                return await call()
            except DatabaseUnavailable:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.5)
