"""Operations as workers see them: claim, renew, checkpoint, finish, all under a lease.

Every write names the lease's epoch. Once somebody else has claimed the operation, it touches no row
and says so; there is no other fence, and none is needed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, LiteralString

from procrastinate import App
from psycopg.types.json import Json, Jsonb

from ktrdr.database.pool import Connection, Pool, autocommit, transaction
from ktrdr.database.queries import query
from ktrdr.errors import InvalidParameters
from ktrdr.operations.events import add_event
from ktrdr.operations.model import Claim, Lease, Renewal, Row, read_parameters
from ktrdr.operations.parts import part_ended, part_started, parts_of
from ktrdr.operations.queue import submitting_app, wake
from ktrdr.operations.settlement import Setback, Settlement, settle, silence_of
from ktrdr.schemas import DrainMode, OperationFault, OperationStatus, OperationType
from ktrdr.work import Checkpoint, Part

logger = logging.getLogger(__name__)

# The reaper takes this many at a time, so that its transaction stays short.
BATCH: Final = 100
# An entry of the queue is taken within a second or two when a worker is idle.
FORGOTTEN_AFTER_S: Final = 60.0


class LeaseLost(Exception):
    """Somebody else has claimed the operation, or it has ended; whoever gets this must stop."""


class NotOurs(Exception):
    """The operation is of a later release; it is left to workers that can read it."""


class LeaseBook:
    """Claims and the writes made under them; safe to share between tasks."""

    def __init__(self, pool: Pool, queue: App | None = None) -> None:
        self._pool = pool
        self._queue = queue or submitting_app()

    async def claim(
        self,
        operation_id: str,
        *,
        worker_id: str,
        lease_s: float,
        drain_targets: Sequence[str] = (),
    ) -> Claim | None:
        """The right to run an operation, or None if it is not to be had.

        Args:
            operation_id: Which.
            worker_id: Who wants it.
            lease_s: For how long, in seconds.
            drain_targets: The worker's id and node; while one of them is drained, nothing is had.
        """
        values = {
            "operation_id": operation_id,
            "worker_id": worker_id,
            "lease_s": lease_s,
            "drain_targets": list(drain_targets),
        }
        try:
            async with transaction(self._pool) as connection:
                cursor = await connection.execute(_sql("claim"), values, prepare=True)
                row = await cursor.fetchone()
                if row is None:
                    return None
                claim = _to_claim(row)
                await part_started(connection, row)
        except NotOurs as exc:
            logger.warning("%s", exc)
            return None
        return claim

    async def wake_another(self, operation_id: str) -> None:
        """Puts an operation that was not claimed back for another worker."""
        async with transaction(self._pool) as connection:
            row = await self._write(connection, "get", {"operation_id": operation_id})
            if row is not None and row["status"] == OperationStatus.PENDING:
                await wake(connection, self._queue, [row])

    async def renew(
        self,
        lease: Lease,
        *,
        lease_s: float,
        progress: float | None,
        message: str | None,
        drain_targets: Sequence[str] = (),
    ) -> Renewal:
        """Extends a lease, notes the progress, and asks what is wanted of whoever holds it.

        Args:
            lease: What to extend.
            lease_s: For how long, in seconds from now.
            progress: How far the work is, or None for no change.
            message: The same in words.
            drain_targets: The worker's id and node.

        Raises:
            LeaseLost: It is no longer ours.
        """
        values = {
            **_of(lease),
            "lease_s": lease_s,
            "progress": progress,
            "message": message,
            "drain_targets": list(drain_targets),
        }
        async with autocommit(self._pool) as connection:
            row = _held(await self._write(connection, "renew", values), lease)
        return Renewal(
            cancel=row["cancel_requested_at"] is not None,
            drain=DrainMode(row["drain"]) if row["drain"] else None,
        )

    async def checkpoint(
        self, lease: Lease, *, step: int, state: Mapping[str, Any], directory: str | None
    ) -> None:
        """Points the operation at a checkpoint whose files are already safe.

        Raises:
            LeaseLost: It is no longer ours, or the step goes back.
        """
        async with autocommit(self._pool) as connection:
            row = await self._write(
                connection,
                "checkpoint",
                {**_of(lease), "step": step, "state": Jsonb(dict(state)), "directory": directory},
            )
        _held(row, lease)

    async def last_checkpoint(self, lease: Lease) -> tuple[Checkpoint, str | None] | None:
        """The newest checkpoint and its directory, relative to the shared directory."""
        async with autocommit(self._pool) as connection:
            row = await self._write(connection, "get_checkpoint", _of(lease))
        if row is None:
            return None
        return Checkpoint(row["step"], row["state"], None), row["directory"]

    async def parts(self, lease: Lease) -> list[Part]:
        """What the operation was divided into, as it ended; empty if it was not."""
        async with autocommit(self._pool) as connection:
            return await parts_of(connection, lease.operation_id)

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

    async def hand_back(self, lease: Lease) -> OperationStatus:
        """Gives an operation back to the queue, to go on from its checkpoint elsewhere.

        One that is to be cancelled is cancelled instead. What has become of it is given.

        Raises:
            LeaseLost: It is no longer ours.
        """
        async with transaction(self._pool) as connection:
            row = _held(await self._write(connection, "hand_back", _of(lease)), lease)
            if row["status"] == OperationStatus.CANCELLED:
                await add_event(connection, row, "finished", None)
                await part_ended(connection, self._queue, row)
            else:
                await add_event(connection, row, "requeued", "its worker makes way")
                await wake(connection, self._queue, [row])
        return OperationStatus(row["status"])

    async def set_back(
        self, lease: Lease, setback: Setback, fault: OperationFault
    ) -> OperationStatus:
        """Settles an attempt that had no outcome; gives what has become of the operation.

        Args:
            lease: What it ran under.
            setback: What happened.
            fault: How, in a sentence.

        Raises:
            LeaseLost: It is no longer ours.
        """
        async with transaction(self._pool) as connection:
            row = _held(await self._write(connection, "lock_held", _of(lease)), lease)
            settlement = settle(row, setback, fault)
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
                settlement = settle(row, Setback.LOST_LEASE, silence_of(row))
                await self._settle(connection, row, settlement, f"{row['worker_id']} fell silent")
            cursor = await connection.execute(
                _sql("forgotten"), {"limit": BATCH, "older_than_s": FORGOTTEN_AFTER_S}
            )
            forgotten = await cursor.fetchall()
            for row in forgotten:
                await connection.execute(_sql("touch_queued"), row)
            await wake(connection, self._queue, forgotten)
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
                "reason": reason,
                "pause_s": settlement.pause_s,
            },
        )
        assert row is not None  # noqa: S101  # locked by this transaction a moment ago
        if settlement.status is OperationStatus.PENDING:
            again = f"{reason}; tried again in {settlement.pause_s:g} s"
            await add_event(connection, row, "requeued", again)
            await wake(connection, self._queue, [row])
        else:
            await add_event(connection, row, "finished", reason)
            await part_ended(connection, self._queue, row)

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
            await part_ended(connection, self._queue, row)

    async def _write(
        self, connection: Connection, name: str, values: Mapping[str, Any]
    ) -> Row | None:
        cursor = await connection.execute(_sql(name), values)
        return await cursor.fetchone()


def _to_claim(row: Row) -> Claim:
    try:
        kind = OperationType(row["operation_type"])
        parameters = read_parameters(kind, row["parameters"])
    except (ValueError, InvalidParameters) as exc:
        raise NotOurs(f"{row['operation_id']} is left to a worker of a later release") from exc
    return Claim(
        lease=Lease(row["operation_id"], row["lease_epoch"]),
        operation_type=kind,
        parameters=parameters,
        attempt=row["attempt"],
        traceparent=row["traceparent"],
        queued_s=row["queued_s"],
    )


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
