"""Leases: workers claim, renew, checkpoint and finish operations under them.

Every write names the lease's epoch. Once another worker has claimed the operation, the write
changes no row and raises `LeaseLost`. No other protection is needed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from procrastinate import App
from psycopg.types.json import Json, Jsonb

from ktrdr.database.pool import Connection, Pool, autocommit, transaction
from ktrdr.database.queries import Row
from ktrdr.errors import InvalidParameters
from ktrdr.operations.children import list_child_results, mark_parent_running, update_parent
from ktrdr.operations.model import Claim, Lease, Renewal, parse_parameters
from ktrdr.operations.queries import QUERIES, add_event
from ktrdr.operations.queue import enqueue, make_enqueuing_app
from ktrdr.operations.retry import FailureKind, RetryDecision, decide, lost_lease_error
from ktrdr.schemas import DrainMode, ErrorDetail, OperationStatus, OperationType
from ktrdr.work import Checkpoint, ChildResult

logger = logging.getLogger(__name__)

# The reaper handles this many operations at a time, so that its transaction stays short.
REAP_BATCH: Final = 100
# An idle worker takes a queue entry within a second or two.
UNQUEUED_AFTER_S: Final = 60.0


class LeaseLost(Exception):
    """Error of a write under a lease that is no longer valid.

    The operation has ended, or is pending or claimed again. The worker must stop it.
    """


class UnsupportedOperation(Exception):
    """Error of a claim of an operation that only workers of a later release can read."""


class LeaseStore:
    """Claims, and the writes made under them; safe to share between tasks."""

    def __init__(self, pool: Pool, queue: App | None = None) -> None:
        self._pool = pool
        self._queue = queue or make_enqueuing_app()

    async def claim(
        self,
        operation_id: str,
        *,
        worker_id: str,
        lease_s: float,
        drain_targets: Sequence[str] = (),
    ) -> Claim | None:
        """Claim an operation under a new lease; return None if it cannot be claimed.

        Args:
            operation_id: Operation to claim.
            worker_id: Worker that claims it.
            lease_s: Duration of the lease in seconds.
            drain_targets: Worker's id and node. While one of them is drained, every claim fails.
        """
        try:
            async with transaction(self._pool) as connection:
                cursor = await QUERIES.execute(
                    connection,
                    "claim_operation",
                    prepare=True,
                    operation_id=operation_id,
                    worker_id=worker_id,
                    lease_s=lease_s,
                    drain_targets=list(drain_targets),
                )
                row = await cursor.fetchone()
                if row is None:
                    return None
                claim = _to_claim(row)
                await mark_parent_running(connection, row)
        except UnsupportedOperation as exc:
            logger.warning("%s", exc)
            return None
        return claim

    async def wake_another_worker(self, operation_id: str) -> None:
        """Queue a pending operation again, for a worker that can claim it."""
        async with transaction(self._pool) as connection:
            row = await QUERIES.fetch_one(connection, "get_operation", operation_id=operation_id)
            if row is not None and row["status"] == OperationStatus.PENDING:
                await enqueue(connection, self._queue, [row])

    async def renew(
        self,
        lease: Lease,
        *,
        lease_s: float,
        progress: float | None,
        message: str | None,
        drain_targets: Sequence[str] = (),
    ) -> Renewal:
        """Renew a lease, record the progress, and return the requests to the worker.

        Args:
            lease: Lease to renew.
            lease_s: Duration in seconds from now.
            progress: Progress from 0 to 1, or None for no change.
            message: Progress in words, or None for no change.
            drain_targets: Worker's id and node.

        Raises:
            LeaseLost: The lease is no longer valid.
        """
        async with autocommit(self._pool) as connection:
            row = await _write_leased(
                connection,
                "renew_lease",
                lease,
                lease_s=lease_s,
                progress=progress,
                message=message,
                drain_targets=list(drain_targets),
            )
        return Renewal(
            is_cancel_requested=row["cancel_requested_at"] is not None,
            drain_mode=DrainMode(row["drain"]) if row["drain"] else None,
        )

    async def save_checkpoint(
        self, lease: Lease, *, step: int, state: Mapping[str, Any], directory: str | None
    ) -> None:
        """Record a checkpoint whose files are already safe.

        Raises:
            LeaseLost: The lease is no longer valid, or the step lies before the last checkpoint.
        """
        async with autocommit(self._pool) as connection:
            await _write_leased(
                connection,
                "save_checkpoint",
                lease,
                step=step,
                state=Jsonb(dict(state)),
                directory=directory,
            )

    async def get_checkpoint(self, lease: Lease) -> tuple[Checkpoint, str | None] | None:
        """Return the newest checkpoint and its directory, relative to the shared directory."""
        async with autocommit(self._pool) as connection:
            row = await QUERIES.fetch_one(
                connection, "get_checkpoint", operation_id=lease.operation_id
            )
        if row is None:
            return None
        return Checkpoint(row["step"], row["state"], None), row["directory"]

    async def list_child_results(self, lease: Lease) -> list[ChildResult]:
        """Return the results of the operation's children; empty if it has none."""
        async with autocommit(self._pool) as connection:
            return await list_child_results(connection, lease.operation_id)

    async def complete(self, lease: Lease, result: Mapping[str, Any]) -> None:
        """Complete an operation with its result, and delete its checkpoint.

        Raises:
            LeaseLost: The lease is no longer valid; the result is discarded.
        """
        await self._finish(lease, OperationStatus.COMPLETED, result=result)

    async def fail(self, lease: Lease, error: ErrorDetail) -> None:
        """Fail an operation with its error, and keep its checkpoint for a resume.

        Raises:
            LeaseLost: The lease is no longer valid.
        """
        await self._finish(lease, OperationStatus.FAILED, error=error)

    async def mark_cancelled(self, lease: Lease) -> None:
        """Cancel an operation whose child process has stopped, and keep its checkpoint.

        Raises:
            LeaseLost: The lease is no longer valid.
        """
        await self._finish(lease, OperationStatus.CANCELLED)

    async def requeue(self, lease: Lease) -> OperationStatus:
        """Return an operation to the queue, with its checkpoint, and return its new status.

        An operation with a cancel request is cancelled instead.

        Raises:
            LeaseLost: The lease is no longer valid.
        """
        async with transaction(self._pool) as connection:
            row = await _write_leased(connection, "requeue_operation", lease)
            if row["status"] == OperationStatus.CANCELLED:
                await add_event(connection, row, "finished", None)
                await update_parent(connection, self._queue, row)
            else:
                await add_event(connection, row, "requeued", "its worker stopped or was drained")
                await enqueue(connection, self._queue, [row])
        return OperationStatus(row["status"])

    async def retry_or_fail(
        self, lease: Lease, failure: FailureKind, error: ErrorDetail
    ) -> OperationStatus:
        """Apply the retry policy after a failed attempt, and return the operation's new status.

        Args:
            lease: Lease of the attempt.
            failure: Kind of failure.
            error: Description of the failure.

        Raises:
            LeaseLost: The lease is no longer valid.
        """
        async with transaction(self._pool) as connection:
            row = await _write_leased(connection, "lock_leased_operation", lease)
            decision = decide(row, failure, error)
            await self._apply(connection, row, decision, error.message)
        return decision.status

    async def reap(self) -> list[str]:
        """Apply the retry policy to expired leases, and return the ids of their operations.

        Operations without a queue entry are queued again. Several processes may reap
        simultaneously: rows that one has locked are skipped by the others.
        """
        async with transaction(self._pool) as connection:
            expired = await QUERIES.fetch_all(connection, "find_expired_leases", limit=REAP_BATCH)
            for row in expired:
                decision = decide(row, FailureKind.LOST_LEASE, lost_lease_error(row))
                await self._apply(
                    connection, row, decision, f"worker {row['worker_id']} stopped responding"
                )
            unqueued = await QUERIES.fetch_all(
                connection, "find_unqueued", limit=REAP_BATCH, older_than_s=UNQUEUED_AFTER_S
            )
            for row in unqueued:
                await QUERIES.execute(
                    connection, "reset_queued_at", operation_id=row["operation_id"]
                )
            await enqueue(connection, self._queue, unqueued)
        return [row["operation_id"] for row in expired]

    async def _apply(
        self, connection: Connection, locked: Row, decision: RetryDecision, reason: str
    ) -> None:
        row = await QUERIES.fetch_one(
            connection,
            "apply_retry_decision",
            operation_id=locked["operation_id"],
            status=decision.status.value,
            error=_to_json(decision.error),
            reason=reason,
            delay_s=decision.delay_s,
        )
        assert row is not None  # noqa: S101  # locked by this transaction a moment ago
        if decision.status is OperationStatus.PENDING:
            message = f"{reason}; retry in {decision.delay_s:g} s"
            await add_event(connection, row, "requeued", message)
            await enqueue(connection, self._queue, [row])
        else:
            await add_event(connection, row, "finished", reason)
            await update_parent(connection, self._queue, row)

    async def _finish(
        self,
        lease: Lease,
        status: OperationStatus,
        *,
        result: Mapping[str, Any] | None = None,
        error: ErrorDetail | None = None,
    ) -> None:
        async with transaction(self._pool) as connection:
            row = await _write_leased(
                connection,
                "finish_operation",
                lease,
                status=status.value,
                result=Json(dict(result)) if result is not None else None,
                error=_to_json(error),
            )
            await add_event(connection, row, "finished", error.message if error else None)
            if status is OperationStatus.COMPLETED:
                await QUERIES.execute(
                    connection, "delete_checkpoint", operation_id=lease.operation_id
                )
            await update_parent(connection, self._queue, row)


def _to_claim(row: Row) -> Claim:
    try:
        operation_type = OperationType(row["operation_type"])
        parameters = parse_parameters(operation_type, row["parameters"])
    except (ValueError, InvalidParameters) as exc:
        raise UnsupportedOperation(
            f"{row['operation_id']} needs a worker of a later release"
        ) from exc
    return Claim(
        lease=Lease(row["operation_id"], row["lease_epoch"]),
        operation_type=operation_type,
        parameters=parameters,
        attempt=row["attempt"],
        traceparent=row["traceparent"],
        queued_s=row["queued_s"],
    )


async def _write_leased(connection: Connection, name: str, lease: Lease, **values: Any) -> Row:
    """Execute a query that changes a row only under a valid lease."""
    row = await QUERIES.fetch_one(
        connection, name, operation_id=lease.operation_id, lease_epoch=lease.epoch, **values
    )
    if row is None:
        raise LeaseLost(f"{lease.operation_id} is no longer leased under epoch {lease.epoch}")
    return row


def _to_json(error: ErrorDetail | None) -> Jsonb | None:
    return Jsonb(error.model_dump()) if error else None
