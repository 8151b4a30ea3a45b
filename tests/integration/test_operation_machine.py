"""State machine test: random histories of operations on a real PostgreSQL, compared with a model.

Two workers claim, renew, checkpoint, finish, requeue and die, under valid leases and under every
lease they ever had. Clients submit, cancel and resume. Leases expire, one or two reapers run, and
the queue loses entries. After every step the whole database is compared with the model.
``OPERATION_MACHINE_EXAMPLES`` sets the number of histories.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ktrdr.database.pool import make_pool
from ktrdr.errors import Conflict
from ktrdr.operations.leases import UNQUEUED_AFTER_S, LeaseLost
from ktrdr.operations.model import Claim, Lease
from ktrdr.operations.retry import FailureKind, decide, lost_lease_error
from ktrdr.schemas import ErrorDetail, OperationRequest, OperationStatus, OperationType
from ktrdr.settings import Settings
from tests.integration.identities import ADA
from tests.integration.operation_database import OperationDatabase, Row, Snapshot
from tests.integration.operation_model import FINAL, OperationModel

EXAMPLES = int(os.environ.get("OPERATION_MACHINE_EXAMPLES", "40"))
STEPS = 50
# Few operations, so that many rules apply to each.
MAX_OPERATIONS = 3
LEASE_S = 3600.0
WORKERS = st.sampled_from(["worker A", "worker B"])
STEP_NUMBERS = st.integers(1, 4)
# Writes use any earlier lease, and more often the operation's newest.
NEWEST = st.sampled_from([True, True, False])
COMPARED_EVENTS = ("submitted", "started", "requeued", "finished")
KILLED = ErrorDetail(kind="killed", message="the operation's process was killed")
BROKEN = ErrorDetail(kind="broken", message="the operation raised an error")
T = TypeVar("T")


class OperationMachine(RuleBasedStateMachine):
    """Rules of the machine, and the invariants after each of them."""

    database: OperationDatabase
    operations = Bundle("operations")
    leases = Bundle("leases")

    @initialize()
    def begin(self) -> None:
        self.database.clear()
        self.models: dict[str, OperationModel] = {}
        self.keys: dict[str, tuple[str, int]] = {}
        self.before = Snapshot()
        # Operations that the last rule may have changed or resumed; the others must be unchanged.
        self.touched: set[str] = set()
        self.resumed: set[str] = set()
        self.unqueued: set[str] = set()

    # ------------------------------------------------------------ clients

    @precondition(lambda self: len(self.models) < MAX_OPERATIONS)
    @rule(target=operations, key=st.sampled_from([None, "k1", "k2"]), folds=st.sampled_from([3, 4]))
    def submit(self, key: str | None, folds: int) -> Any:
        request = OperationRequest(
            operation_type=OperationType.BACKTEST, parameters={"symbol": "SP500", "folds": folds}
        )
        submitted = self.database.store.submit([request], by=ADA, idempotency_key=key)
        if key in self.keys and self.keys[key][1] != folds:
            with pytest.raises(Conflict):
                self.database.run(submitted)
            return multiple()
        ((operation, is_new),) = self.database.run(submitted)
        assert is_new == (key not in self.keys)
        if not is_new:
            assert key
            assert operation.operation_id == self.keys[key][0]
            return operation.operation_id
        if key:
            self.keys[key] = (operation.operation_id, folds)
        self.models[operation.operation_id] = OperationModel()
        return operation.operation_id

    @rule(operation_id=operations)
    def cancel(self, operation_id: str) -> None:
        model = self.models[operation_id]
        cancelling = self.database.store.cancel(operation_id, by=ADA)
        if model.status in FINAL:
            with pytest.raises(Conflict):
                self.database.run(cancelling)
            return
        self.touched.add(operation_id)
        model.cancel()
        assert self.database.run(cancelling).status is model.status

    @rule(operation_id=operations)
    def resume(self, operation_id: str) -> None:
        model = self.models[operation_id]
        resuming = self.database.store.resume(operation_id, by=ADA)
        if model.status not in (OperationStatus.FAILED, OperationStatus.CANCELLED):
            with pytest.raises(Conflict):
                self.database.run(resuming)
            return
        self.touched.add(operation_id)
        self.resumed.add(operation_id)
        model.resume()
        self.database.run(resuming)

    # ------------------------------------------------------------ workers

    @rule(target=leases, operation_id=operations, worker=WORKERS)
    def claim(self, operation_id: str, worker: str) -> Any:
        return self._granted(operation_id, [self.database.run(self._claim(operation_id, worker))])

    @rule(target=leases, operation_id=operations)
    def both_workers_claim_at_once(self, operation_id: str) -> Any:
        workers = (self._claim(operation_id, "worker A"), self._claim(operation_id, "worker B"))
        return self._granted(operation_id, self.database.run_concurrently(*workers))

    @rule(lease=leases, newest=NEWEST, progress=st.none() | st.floats(0, 1))
    def renew(self, lease: Lease, newest: bool, progress: float | None) -> None:
        lease = self._newest(lease) if newest else lease
        model = self.models[lease.operation_id]
        renewing = self.database.leases.renew(
            lease, lease_s=LEASE_S, progress=progress, message="at it"
        )
        renewal = self._write(lease, renewing)
        if model.is_held_under(lease.epoch):
            assert renewal
            assert renewal.is_cancel_requested == model.is_cancel_requested
            model.is_overdue = False

    @rule(lease=leases, newest=NEWEST, step=STEP_NUMBERS)
    def checkpoint(self, lease: Lease, newest: bool, step: int) -> None:
        lease = self._newest(lease) if newest else lease
        model = self.models[lease.operation_id]
        saving = self.database.leases.save_checkpoint(
            lease, step=step, state={"epoch": lease.epoch, "step": step}, directory=None
        )
        counts = model.accepts_checkpoint(lease.epoch, step)
        self._write(lease, saving, counts=counts)
        if counts:
            model.checkpoint = (lease.epoch, step)

    @rule(lease=leases, newest=NEWEST, value=st.integers(0, 1000))
    def complete(self, lease: Lease, newest: bool, value: int) -> None:
        lease = self._newest(lease) if newest else lease
        model = self.models[lease.operation_id]
        held = model.is_held_under(lease.epoch)
        self._write(lease, self.database.leases.complete(lease, {"value": value}))
        if held:
            model.result = value
            model.finish(OperationStatus.COMPLETED)

    @rule(lease=leases, newest=NEWEST)
    def fail(self, lease: Lease, newest: bool) -> None:
        lease = self._newest(lease) if newest else lease
        held = self.models[lease.operation_id].is_held_under(lease.epoch)
        self._write(lease, self.database.leases.fail(lease, BROKEN))
        if held:
            self.models[lease.operation_id].finish(OperationStatus.FAILED, error=BROKEN.kind)

    @rule(lease=leases, newest=NEWEST)
    def stop_after_cancel_request(self, lease: Lease, newest: bool) -> None:
        lease = self._newest(lease) if newest else lease
        model = self.models[lease.operation_id]
        if not model.is_cancel_requested and model.is_held_under(lease.epoch):
            return  # no worker does this without a request
        held = model.is_held_under(lease.epoch)
        self._write(lease, self.database.leases.mark_cancelled(lease))
        if held:
            model.finish(OperationStatus.CANCELLED)

    @rule(lease=leases, newest=NEWEST)
    def requeue(self, lease: Lease, newest: bool) -> None:
        lease = self._newest(lease) if newest else lease
        held = self.models[lease.operation_id].is_held_under(lease.epoch)
        self._write(lease, self.database.leases.requeue(lease))
        if held:
            self.models[lease.operation_id].requeue()

    @rule(lease=leases, newest=NEWEST)
    def child_process_dies(self, lease: Lease, newest: bool) -> None:
        lease = self._newest(lease) if newest else lease
        model = self.models[lease.operation_id]
        held = model.is_held_under(lease.epoch)
        expected = decide(self.before.rows[lease.operation_id], FailureKind.DEATH, KILLED)
        dying = self.database.leases.retry_or_fail(lease, FailureKind.DEATH, KILLED)
        became = self._write(lease, dying)
        if held:
            assert became is expected.status
            model.apply_retry_decision(
                expected.status, expected.error.kind if expected.error else None
            )

    @rule(lease=consumes(leases))
    def late_worker_writes_are_rejected(self, lease: Lease) -> None:
        """Try every write under a lease that is no longer valid, as a paused worker would."""
        if self.models[lease.operation_id].is_held_under(lease.epoch):
            return
        book = self.database.leases
        for write in (
            book.renew(lease, lease_s=LEASE_S, progress=1.0, message="zombie"),
            book.save_checkpoint(lease, step=99, state={}, directory="zombie"),
            book.complete(lease, {"value": -1}),
            book.fail(lease, BROKEN),
            book.mark_cancelled(lease),
            book.requeue(lease),
            book.retry_or_fail(lease, FailureKind.DEATH, KILLED),
        ):
            self._write(lease, write, counts=False)

    # ------------------------------------------------------------ time, reapers, lost queue entries

    @rule(lease=leases)
    def lease_expires(self, lease: Lease) -> None:
        self._expire_lease(lease.operation_id)

    @rule(target=leases, lease=leases, worker=WORKERS)
    def lease_expires_and_another_worker_claims(self, lease: Lease, worker: str) -> Any:
        self._expire_lease(lease.operation_id)
        claim = self.database.run(self._claim(lease.operation_id, worker))
        return self._granted(lease.operation_id, [claim])

    @rule(lease=leases)
    def lease_expires_and_two_reapers_run(self, lease: Lease) -> None:
        self._expire_lease(lease.operation_id)
        self._reap(2)

    @rule(operation_id=operations)
    def retry_delay_ends(self, operation_id: str) -> None:
        if self.before.rows[operation_id].get("not_before") is None:
            return
        self.touched.add(operation_id)
        self.database.execute(
            "UPDATE operations SET not_before = now() - interval '1 s' WHERE operation_id = %s",
            operation_id,
        )

    @rule(operation_id=operations)
    def queue_entries_are_lost(self, operation_id: str) -> None:
        self.touched.add(operation_id)
        self.unqueued.add(operation_id)
        self.database.execute(
            "DELETE FROM procrastinate_jobs WHERE args ->> 'operation_id' = %s", operation_id
        )
        self.database.execute(
            "UPDATE operations SET queued_at = now() - make_interval(secs => %s)"
            " WHERE operation_id = %s AND status = 'pending'",
            UNQUEUED_AFTER_S * 2,
            operation_id,
        )

    @rule(reapers=st.integers(1, 2))
    def reapers_run(self, reapers: int) -> None:
        self._reap(reapers)

    # ------------------------------------------------------------ invariants

    @invariant()
    def database_matches_model(self) -> None:
        now = self.database.snapshot()
        assert now.rows.keys() == self.models.keys()
        for name, model in self.models.items():
            _assert_match(model, *now.of(name))
            self._assert_valid_change(name, now)
        waiting = {n for n, model in self.models.items() if model.status is OperationStatus.PENDING}
        assert waiting <= now.queued | self.unqueued, "no worker will ever be woken for these"
        self.before = now
        self.touched.clear()
        self.resumed.clear()

    def _assert_valid_change(self, name: str, now: Snapshot) -> None:
        """Assert what holds from one step to the next, independent of the model."""
        if name not in self.before.rows:
            return
        old_row, new_row = self.before.rows[name], now.rows[name]
        if name not in self.touched:
            assert now.of(name) == self.before.of(name), "a rejected write has changed something"
        if OperationStatus(old_row["status"]) in FINAL and name not in self.resumed:
            expected = {**new_row, "queued_at": old_row["queued_at"]}
            assert expected == old_row, "an operation that had ended has changed"
        assert new_row["lease_epoch"] >= old_row["lease_epoch"]
        if new_row["attempt"] > old_row["attempt"]:
            assert new_row["lease_epoch"] > old_row["lease_epoch"]
        earlier_events = self.before.events[name]
        assert now.events[name][: len(earlier_events)] == earlier_events, "history was rewritten"

    # ------------------------------------------------------------ helpers

    def _expire_lease(self, operation_id: str) -> None:
        model = self.models[operation_id]
        if not model.is_leased:
            return
        self.touched.add(operation_id)
        model.is_overdue = True
        self.database.execute(
            "UPDATE operations SET lease_until = now() - interval '1 s' WHERE operation_id = %s",
            operation_id,
        )

    def _reap(self, reapers: int) -> None:
        overdue = {name for name, model in self.models.items() if model.is_overdue}
        rows = self.database.snapshot().rows
        decided = {
            name: decide(rows[name], FailureKind.LOST_LEASE, lost_lease_error(rows[name]))
            for name in overdue
        }
        reaped = self.database.run_concurrently(
            *(self.database.leases.reap() for _ in range(reapers))
        )
        assert sorted(name for names in reaped for name in names) == sorted(overdue)
        for name, decision in decided.items():
            error = decision.error
            self.models[name].apply_retry_decision(decision.status, error.kind if error else None)
        self.touched |= overdue | self.unqueued
        self.unqueued.clear()

    async def _claim(self, operation_id: str, worker: str) -> Claim | None:
        return await self.database.leases.claim(operation_id, worker_id=worker, lease_s=LEASE_S)

    def _granted(self, operation_id: str, claims: list[Claim | None]) -> Any:
        model = self.models[operation_id]
        is_delayed = _is_delayed(self.before.rows[operation_id])
        granted = [claim for claim in claims if claim is not None]
        assert len(granted) == int(model.is_claimable() and not is_delayed)
        if not granted:
            return multiple()
        self.touched.add(operation_id)
        model.claim()
        assert granted[0].lease.epoch == model.epoch
        assert granted[0].attempt == model.attempt
        return granted[0].lease

    def _newest(self, lease: Lease) -> Lease:
        return Lease(lease.operation_id, self.models[lease.operation_id].epoch)

    def _write(self, lease: Lease, write: Awaitable[T], *, counts: bool | None = None) -> T | None:
        """Make a write that must succeed or be rejected, as the model expects."""
        if counts is None:
            counts = self.models[lease.operation_id].is_held_under(lease.epoch)
        if counts:
            self.touched.add(lease.operation_id)
            return self.database.run(write)
        with pytest.raises(LeaseLost):
            self.database.run(write)
        return None


def _is_delayed(row: Row) -> bool:
    until = row.get("not_before")
    return until is not None and until > until.now(until.tzinfo)


def _assert_match(
    model: OperationModel, row: Row, checkpoint: Row | None, events: list[Row]
) -> None:
    assert row["status"] == model.status
    assert row["lease_epoch"] == model.epoch
    assert row["attempt"] == model.attempt
    assert (row["lease_until"] is not None) == model.is_leased
    assert (row["cancel_requested_at"] is not None) == model.is_cancel_requested
    assert (row["finished_at"] is not None) == (model.status in FINAL)
    assert row["result"] == ({"value": model.result} if model.result is not None else None)
    assert (row["error"] or {}).get("kind") == model.error
    point = (checkpoint["lease_epoch"], checkpoint["step"]) if checkpoint else None
    assert point == model.checkpoint
    if checkpoint:
        assert checkpoint["state"] == {"epoch": point[0], "step": point[1]} if point else None
    compared = [(row["kind"], row["status"]) for row in events if row["kind"] in COMPARED_EVENTS]
    assert compared == model.events
    assert [kind for kind, _ in compared].count("started") == row["attempt"]
    completed = compared.count(("finished", OperationStatus.COMPLETED))
    assert completed == int(model.status is OperationStatus.COMPLETED)


@pytest.fixture
def operation_database(database: Settings) -> Iterator[OperationDatabase]:
    """Provide the database that the machine runs on."""
    with asyncio.Runner() as runner:
        pool = make_pool(database, "machine", max_size=4)
        runner.run(pool.open())
        yield OperationDatabase(pool, runner)
        runner.run(pool.close())


@pytest.mark.timeout(3600)
def test_every_history_of_operations_matches_the_model(
    operation_database: OperationDatabase,
) -> None:
    machine = type("Machine", (OperationMachine,), {"database": operation_database})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            phases=[phase for phase in Phase if phase is not Phase.explain],
            suppress_health_check=list(HealthCheck),
        ),
    )
