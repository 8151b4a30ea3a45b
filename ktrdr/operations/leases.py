"""Operations as workers see them: claim, renew, checkpoint, finish, all under a lease.

Every write names the lease's epoch. Once somebody else has claimed the operation, it touches no row
and says so; there is no other fence, and none is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, LiteralString

from procrastinate import App
from psycopg.types.json import Json, Jsonb

from ktrdr.contracts import OperationFault, OperationStatus, OperationType
from ktrdr.database.pool import Connection, Pool, transaction
from ktrdr.database.queries import query
from ktrdr.operations.model import (
    Claim,
    Lease,
    Row,
    Settlement,
    read_parameters,
    settle_death,
    settle_expired,
)
from ktrdr.operations.queue import submitting_app, wake
from ktrdr.operations.store import add_event
from ktrdr.work import Checkpoint

# The reaper takes this many at a time, so that its transaction stays short.
BATCH: Final = 100
# An entry of the queue is taken within a second or two when a worker is idle.
FORGOTTEN_AFTER_S: Final = 60.0


class LeaseLost(Exception):
    """Somebody else has claimed the operation, or it has ended; whoever gets this must stop."""


class LeaseBook:
    """Claims and the writes made under them; safe to share between tasks."""

    def __init__(self, pool: Pool, queue: App | None = None) -> None:
        self._pool = pool
        self._queue = queue or submitting_app()

    async def claim(self, operation_id: str, *, worker_id: str, lease_s: float) -> Claim | None:
        """The right to run an operation for ``lease_s`` seconds, or None if it is not to be had."""
        async with transaction(self._pool) as connection:
            row = await self._write(
                connection,
                "claim",
                {"operation_id": operation_id, "worker_id": worker_id, "lease_s": lease_s},
            )
            if row is None:
                return None
            await add_event(connection, row, "started", f"on {worker_id}, attempt {row['attempt']}")
        kind = OperationType(row["operation_type"])
        return Claim(
            lease=Lease(operation_id, row["lease_epoch"]),
            operation_type=kind,
            parameters=read_parameters(kind, row["parameters"]),
            attempt=row["attempt"],
            traceparent=row["traceparent"],
            queued_s=row["queued_s"],
        )

    async def renew(
        self, lease: Lease, *, lease_s: float, progress: float | None, message: str | None
    ) -> bool:
        """Extends a lease and notes the progress; True if somebody wants the operation cancelled.

        Raises:
            LeaseLost: It is no longer ours.
        """
        async with transaction(self._pool) as connection:
            row = await self._write(
                connection,
                "renew",
                {**_of(lease), "lease_s": lease_s, "progress": progress, "message": message},
            )
        return _held(row, lease)["cancel_requested_at"] is not None

    async def checkpoint(
        self, lease: Lease, *, step: int, state: Mapping[str, Any], directory: str | None
    ) -> None:
        """Points the operation at a checkpoint whose files are already safe.

        Raises:
            LeaseLost: It is no longer ours, or the step goes back.
        """
        async with transaction(self._pool) as connection:
            row = await self._write(
                connection,
                "checkpoint",
                {**_of(lease), "step": step, "state": Jsonb(dict(state)), "directory": directory},
            )
        _held(row, lease)

    async def last_checkpoint(self, lease: Lease) -> tuple[Checkpoint, str | None] | None:
        """The newest checkpoint and its directory, relative to the shared directory."""
        async with transaction(self._pool) as connection:
            row = await self._write(connection, "get_checkpoint", _of(lease))
        if row is None:
            return None
        return Checkpoint(row["step"], row["state"], None), row["directory"]

    async def complete(self, lease: Lease, result: Mapping[str, Any]) -> None:
        """Ends an operation with its result; its checkpoint is forgotten.

        Raises:
            LeaseLost: It is no longer ours; the result does not count.
        """
        await self._finish(lease, OperationStatus.COMPLETED, result=result)

    async def fail(self, lease: Lease, fault: OperationFault) -> None:
        """Ends an operation with its error; its checkpoint stays, for a resume.

        Raises:
            LeaseLost: It is no longer ours.
        """
        await self._finish(lease, OperationStatus.FAILED, fault=fault)

    async def cancelled(self, lease: Lease) -> None:
        """Ends an operation that was to be cancelled; its checkpoint stays, for a resume.

        Raises:
            LeaseLost: It is no longer ours.
        """
        await self._finish(lease, OperationStatus.CANCELLED)

    async def hand_back(self, lease: Lease) -> None:
        """Gives an operation back to the queue, to go on from its checkpoint elsewhere.

        One that is to be cancelled is cancelled instead.

        Raises:
            LeaseLost: It is no longer ours.
        """
        async with transaction(self._pool) as connection:
            row = _held(await self._write(connection, "hand_back", _of(lease)), lease)
            if row["status"] == OperationStatus.CANCELLED:
                await add_event(connection, row, "finished", None)
                return
            await add_event(connection, row, "requeued", "its worker is stopping")
            await wake(connection, self._queue, lease.operation_id, row["worker_type"])

    async def died(self, lease: Lease, fault: OperationFault) -> OperationStatus:
        """Settles an operation whose process died without a word; gives what has become of it.

        Args:
            lease: What it ran under.
            fault: How it died.

        Raises:
            LeaseLost: It is no longer ours.
        """
        async with transaction(self._pool) as connection:
            row = _held(await self._write(connection, "lock_held", _of(lease)), lease)
            settlement = settle_death(row, fault)
            await self._settle(connection, row, settlement, fault.message)
        return settlement.status

    async def reap(self) -> list[str]:
        """Settles operations whose lease ran out; gives their ids.

        Safe to run at several places at once: rows that another has locked are left to it.
        """
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(_sql("expired"), {"limit": BATCH})
            expired = await cursor.fetchall()
            for row in expired:
                silent = f"{row['worker_id']} fell silent"
                await self._settle(connection, row, settle_expired(row), silent)
            cursor = await connection.execute(
                _sql("forgotten"), {"limit": BATCH, "older_than_s": FORGOTTEN_AFTER_S}
            )
            for row in await cursor.fetchall():
                await connection.execute(_sql("touch_queued"), row)
                await wake(connection, self._queue, row["operation_id"], row["worker_type"])
        return [row["operation_id"] for row in expired]

    async def _settle(
        self, connection: Connection, locked: Row, settlement: Settlement, reason: str
    ) -> None:
        row = await self._write(
            connection,
            "settle",
            {
                "operation_id": locked["operation_id"],
                "status": settlement.status.value,
                "error": _json(settlement.error),
            },
        )
        assert row is not None  # noqa: S101  # locked by this transaction a moment ago
        if settlement.status is OperationStatus.PENDING:
            await add_event(connection, row, "requeued", reason)
            await wake(connection, self._queue, row["operation_id"], row["worker_type"])
        else:
            await add_event(connection, row, "finished", reason)

    async def _finish(
        self,
        lease: Lease,
        status: OperationStatus,
        *,
        result: Mapping[str, Any] | None = None,
        fault: OperationFault | None = None,
    ) -> None:
        values = {
            **_of(lease),
            "status": status.value,
            "result": Json(dict(result)) if result is not None else None,
            "error": _json(fault),
        }
        async with transaction(self._pool) as connection:
            row = _held(await self._write(connection, "finish", values), lease)
            await add_event(connection, row, "finished", fault.message if fault else None)
            if status is OperationStatus.COMPLETED:
                await connection.execute(_sql("delete_checkpoint"), values)

    async def _write(
        self, connection: Connection, name: str, values: Mapping[str, Any]
    ) -> Row | None:
        cursor = await connection.execute(_sql(name), values)
        return await cursor.fetchone()


def _sql(name: str) -> LiteralString:
    return query("ktrdr.operations", name)


def _of(lease: Lease) -> dict[str, Any]:
    return {"operation_id": lease.operation_id, "lease_epoch": lease.epoch}


def _held(row: Row | None, lease: Lease) -> Row:
    if row is None:
        raise LeaseLost(f"{lease.operation_id} is no longer held under epoch {lease.epoch}")
    return row


def _json(fault: OperationFault | None) -> Jsonb | None:
    return Jsonb(fault.model_dump()) if fault else None
