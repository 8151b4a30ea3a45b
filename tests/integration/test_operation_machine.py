"""Thousands of random lives of operations on a real PostgreSQL, each step held against a model.

Two workers claim, renew, checkpoint, finish, hand back and die, under leases that are good and
under every lease they ever had; clients submit, cancel and resume; leases run out, reapers come,
one or two at a time; the queue loses entries. After every step the whole database is looked at.
``OPERATION_MACHINE_EXAMPLES`` sets how many lives there are.
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
from ktrdr.operations.leases import FORGOTTEN_AFTER_S, LeaseLost
from ktrdr.operations.model import Claim, Lease
from ktrdr.operations.settlement import Setback, settle, silence_of
from ktrdr.schemas import OperationFault, OperationRequest, OperationStatus, OperationType
from ktrdr.settings import Settings
from tests.integration.identities import ADA
from tests.integration.operation_ground import Ground, Row, Snapshot
from tests.integration.operation_model import FINAL, Life

EXAMPLES = int(os.environ.get("OPERATION_MACHINE_EXAMPLES", "40"))
STEPS = 50
# Few, so that much befalls each.
MOST_OPERATIONS = 3
LEASE_S = 3600.0
WORKERS = st.sampled_from(["worker A", "worker B"])
STEP_NUMBERS = st.integers(1, 4)
# Writes are made under any lease ever given, and more often under the operation's newest.
NEWEST = st.sampled_from([True, True, False])
TOLD = ("submitted", "started", "requeued", "finished")
KILLED = OperationFault(kind="killed", message="the process doing the work was killed")
BROKEN = OperationFault(kind="broken", message="the work raised an error")
T = TypeVar("T")


class OperationMachine(RuleBasedStateMachine):
    """The rules, and what must be so after each of them."""

    ground: Ground
    operations = Bundle("operations")
    leases = Bundle("leases")

    @initialize()
    def begin(self) -> None:
        self.ground.clear()
        self.lives: dict[str, Life] = {}
        self.keys: dict[str, tuple[str, int]] = {}
        self.before = Snapshot()
        # What the last rule may have changed, and what it has resumed; nothing else may differ.
        self.touched: set[str] = set()
        self.resumed: set[str] = set()
        self.unqueued: set[str] = set()

    # ------------------------------------------------------------ clients

    @precondition(lambda self: len(self.lives) < MOST_OPERATIONS)
    @rule(target=operations, key=st.sampled_from([None, "k1", "k2"]), folds=st.sampled_from([3, 4]))
    def submit(self, key: str | None, folds: int) -> Any:
        request = OperationRequest(
            operation_type=OperationType.BACKTEST, parameters={"symbol": "SP500", "folds": folds}
        )
        submitted = self.ground.store.submit([request], by=ADA, idempotency_key=key)
        if key in self.keys and self.keys[key][1] != folds:
            with pytest.raises(Conflict):
                self.ground.run(submitted)
            return multiple()
        ((operation, is_new),) = self.ground.run(submitted)
        assert is_new == (key not in self.keys)
        if not is_new:
            assert key
            assert operation.operation_id == self.keys[key][0]
            return operation.operation_id
        if key:
            self.keys[key] = (operation.operation_id, folds)
        self.lives[operation.operation_id] = Life()
        return operation.operation_id

    @rule(operation_id=operations)
    def cancel(self, operation_id: str) -> None:
        life = self.lives[operation_id]
        cancelling = self.ground.store.cancel(operation_id, by=ADA)
        if life.status in FINAL:
            with pytest.raises(Conflict):
                self.ground.run(cancelling)
            return
        self.touched.add(operation_id)
        life.cancel()
        assert self.ground.run(cancelling).status is life.status

    @rule(operation_id=operations)
    def resume(self, operation_id: str) -> None:
        life = self.lives[operation_id]
        resuming = self.ground.store.resume(operation_id, by=ADA)
        if life.status not in (OperationStatus.FAILED, OperationStatus.CANCELLED):
            with pytest.raises(Conflict):
                self.ground.run(resuming)
            return
        self.touched.add(operation_id)
        self.resumed.add(operation_id)
        life.resume()
        self.ground.run(resuming)

    # ------------------------------------------------------------ workers

    @rule(target=leases, operation_id=operations, worker=WORKERS)
    def claim(self, operation_id: str, worker: str) -> Any:
        return self._granted(operation_id, [self.ground.run(self._claim(operation_id, worker))])

    @rule(target=leases, operation_id=operations)
    def both_workers_claim_at_once(self, operation_id: str) -> Any:
        workers = (self._claim(operation_id, "worker A"), self._claim(operation_id, "worker B"))
        return self._granted(operation_id, self.ground.together(*workers))

    @rule(lease=leases, newest=NEWEST, progress=st.none() | st.floats(0, 1))
    def renew(self, lease: Lease, newest: bool, progress: float | None) -> None:
        lease = self._newest(lease) if newest else lease
        life = self.lives[lease.operation_id]
        renewing = self.ground.leases.renew(
            lease, lease_s=LEASE_S, progress=progress, message="at it"
        )
        wanted = self._write(lease, renewing)
        if life.is_held_under(lease.epoch):
            assert wanted
            assert wanted.cancel == life.cancel_requested
            life.overdue = False

    @rule(lease=leases, newest=NEWEST, step=STEP_NUMBERS)
    def checkpoint(self, lease: Lease, newest: bool, step: int) -> None:
        lease = self._newest(lease) if newest else lease
        life = self.lives[lease.operation_id]
        saving = self.ground.leases.checkpoint(
            lease, step=step, state={"epoch": lease.epoch, "step": step}, directory=None
        )
        counts = life.takes_checkpoint(lease.epoch, step)
        self._write(lease, saving, counts=counts)
        if counts:
            life.checkpoint = (lease.epoch, step)

    @rule(lease=leases, newest=NEWEST, value=st.integers(0, 1000))
    def complete(self, lease: Lease, newest: bool, value: int) -> None:
        lease = self._newest(lease) if newest else lease
        life = self.lives[lease.operation_id]
        held = life.is_held_under(lease.epoch)
        self._write(lease, self.ground.leases.complete(lease, {"value": value}))
        if held:
            life.result = value
            life.finish(OperationStatus.COMPLETED)

    @rule(lease=leases, newest=NEWEST)
    def fail(self, lease: Lease, newest: bool) -> None:
        lease = self._newest(lease) if newest else lease
        held = self.lives[lease.operation_id].is_held_under(lease.epoch)
        self._write(lease, self.ground.leases.fail(lease, BROKEN))
        if held:
            self.lives[lease.operation_id].finish(OperationStatus.FAILED, error=BROKEN.kind)

    @rule(lease=leases, newest=NEWEST)
    def stop_because_it_was_cancelled(self, lease: Lease, newest: bool) -> None:
        lease = self._newest(lease) if newest else lease
        life = self.lives[lease.operation_id]
        if not life.cancel_requested and life.is_held_under(lease.epoch):
            return  # no worker does this unasked
        held = life.is_held_under(lease.epoch)
        self._write(lease, self.ground.leases.cancelled(lease))
        if held:
            life.finish(OperationStatus.CANCELLED)

    @rule(lease=leases, newest=NEWEST)
    def hand_back(self, lease: Lease, newest: bool) -> None:
        lease = self._newest(lease) if newest else lease
        held = self.lives[lease.operation_id].is_held_under(lease.epoch)
        self._write(lease, self.ground.leases.hand_back(lease))
        if held:
            self.lives[lease.operation_id].hand_back()

    @rule(lease=leases, newest=NEWEST)
    def process_dies(self, lease: Lease, newest: bool) -> None:
        lease = self._newest(lease) if newest else lease
        life = self.lives[lease.operation_id]
        held = life.is_held_under(lease.epoch)
        expected = settle(self.before.rows[lease.operation_id], Setback.DEATH, KILLED)
        dying = self.ground.leases.set_back(lease, Setback.DEATH, KILLED)
        became = self._write(lease, dying)
        if held:
            assert became is expected.status
            life.settle(expected.status, expected.error.kind if expected.error else None)

    @rule(lease=consumes(leases))
    def zombie_tries_everything(self, lease: Lease) -> None:
        """A worker that was paused comes back after all is decided."""
        if self.lives[lease.operation_id].is_held_under(lease.epoch):
            return
        book = self.ground.leases
        for write in (
            book.renew(lease, lease_s=LEASE_S, progress=1.0, message="zombie"),
            book.checkpoint(lease, step=99, state={}, directory="zombie"),
            book.complete(lease, {"value": -1}),
            book.fail(lease, BROKEN),
            book.cancelled(lease),
            book.hand_back(lease),
            book.set_back(lease, Setback.DEATH, KILLED),
        ):
            self._write(lease, write, counts=False)

    # ------------------------------------------------------------ time, reapers, accidents

    @rule(lease=leases)
    def lease_runs_out(self, lease: Lease) -> None:
        self._let_run_out(lease.operation_id)

    @rule(target=leases, lease=leases, worker=WORKERS)
    def lease_runs_out_and_somebody_takes_over(self, lease: Lease, worker: str) -> Any:
        self._let_run_out(lease.operation_id)
        claim = self.ground.run(self._claim(lease.operation_id, worker))
        return self._granted(lease.operation_id, [claim])

    @rule(lease=leases)
    def lease_runs_out_and_two_reapers_come(self, lease: Lease) -> None:
        self._let_run_out(lease.operation_id)
        self._reap(2)

    @rule(operation_id=operations)
    def pause_before_the_next_try_ends(self, operation_id: str) -> None:
        if self.before.rows[operation_id].get("not_before") is None:
            return
        self.touched.add(operation_id)
        self.ground.execute(
            "UPDATE operations SET not_before = now() - interval '1 s' WHERE operation_id = %s",
            operation_id,
        )

    @rule(operation_id=operations)
    def queue_loses_its_entries(self, operation_id: str) -> None:
        self.touched.add(operation_id)
        self.unqueued.add(operation_id)
        self.ground.execute(
            "DELETE FROM procrastinate_jobs WHERE args ->> 'operation_id' = %s", operation_id
        )
        self.ground.execute(
            "UPDATE operations SET queued_at = now() - make_interval(secs => %s)"
            " WHERE operation_id = %s AND status = 'pending'",
            FORGOTTEN_AFTER_S * 2,
            operation_id,
        )

    @rule(reapers=st.integers(1, 2))
    def reapers_come(self, reapers: int) -> None:
        self._reap(reapers)

    # ------------------------------------------------------------ what must be so

    @invariant()
    def the_database_says_what_the_model_says(self) -> None:
        now = self.ground.snapshot()
        assert now.rows.keys() == self.lives.keys()
        for name, life in self.lives.items():
            _agrees(life, *now.of(name))
            self._has_changed_lawfully(name, now)
        waiting = {n for n, life in self.lives.items() if life.status is OperationStatus.PENDING}
        assert waiting <= now.queued | self.unqueued, "nobody will ever be woken for these"
        self.before = now
        self.touched.clear()
        self.resumed.clear()

    def _has_changed_lawfully(self, name: str, now: Snapshot) -> None:
        """What holds from one step to the next, whatever the model thinks."""
        if name not in self.before.rows:
            return
        then_row, now_row = self.before.rows[name], now.rows[name]
        if name not in self.touched:
            assert now.of(name) == self.before.of(name), "a refused write has changed something"
        if OperationStatus(then_row["status"]) in FINAL and name not in self.resumed:
            told = {**now_row, "queued_at": then_row["queued_at"]}
            assert told == then_row, "what had ended has changed"
        assert now_row["lease_epoch"] >= then_row["lease_epoch"]
        if now_row["attempt"] > then_row["attempt"]:
            assert now_row["lease_epoch"] > then_row["lease_epoch"]
        told_before = self.before.events[name]
        assert now.events[name][: len(told_before)] == told_before, "history was rewritten"

    # ------------------------------------------------------------ how the rules do it

    def _let_run_out(self, operation_id: str) -> None:
        life = self.lives[operation_id]
        if not life.leased:
            return
        self.touched.add(operation_id)
        life.overdue = True
        self.ground.execute(
            "UPDATE operations SET lease_until = now() - interval '1 s' WHERE operation_id = %s",
            operation_id,
        )

    def _reap(self, reapers: int) -> None:
        overdue = {name for name, life in self.lives.items() if life.overdue}
        rows = self.ground.snapshot().rows
        decided = {
            name: settle(rows[name], Setback.LOST_LEASE, silence_of(rows[name])) for name in overdue
        }
        reaped = self.ground.together(*(self.ground.leases.reap() for _ in range(reapers)))
        assert sorted(name for names in reaped for name in names) == sorted(overdue)
        for name, settlement in decided.items():
            error = settlement.error
            self.lives[name].settle(settlement.status, error.kind if error else None)
        self.touched |= overdue | self.unqueued
        self.unqueued.clear()

    async def _claim(self, operation_id: str, worker: str) -> Claim | None:
        return await self.ground.leases.claim(operation_id, worker_id=worker, lease_s=LEASE_S)

    def _granted(self, operation_id: str, claims: list[Claim | None]) -> Any:
        life = self.lives[operation_id]
        waits = _waits(self.before.rows[operation_id])
        given = [claim for claim in claims if claim is not None]
        assert len(given) == int(life.may_be_claimed() and not waits)
        if not given:
            return multiple()
        self.touched.add(operation_id)
        life.claim()
        assert given[0].lease.epoch == life.epoch
        assert given[0].attempt == life.attempt
        return given[0].lease

    def _newest(self, lease: Lease) -> Lease:
        return Lease(lease.operation_id, self.lives[lease.operation_id].epoch)

    def _write(self, lease: Lease, write: Awaitable[T], *, counts: bool | None = None) -> T | None:
        """Makes a write that must succeed or be refused, as the model says."""
        if counts is None:
            counts = self.lives[lease.operation_id].is_held_under(lease.epoch)
        if counts:
            self.touched.add(lease.operation_id)
            return self.ground.run(write)
        with pytest.raises(LeaseLost):
            self.ground.run(write)
        return None


def _waits(row: Row) -> bool:
    """Whether it is to be left alone until some time, if there is such a thing."""
    until = row.get("not_before")
    return until is not None and until > until.now(until.tzinfo)


def _agrees(life: Life, row: Row, checkpoint: Row | None, events: list[Row]) -> None:
    assert row["status"] == life.status
    assert row["lease_epoch"] == life.epoch
    assert row["attempt"] == life.attempt
    assert (row["lease_until"] is not None) == life.leased
    assert (row["cancel_requested_at"] is not None) == life.cancel_requested
    assert (row["finished_at"] is not None) == (life.status in FINAL)
    assert row["result"] == ({"value": life.result} if life.result is not None else None)
    assert (row["error"] or {}).get("kind") == life.error
    kept = (checkpoint["lease_epoch"], checkpoint["step"]) if checkpoint else None
    assert kept == life.checkpoint
    if checkpoint:
        assert checkpoint["state"] == {"epoch": kept[0], "step": kept[1]} if kept else None
    told = [(row["kind"], row["status"]) for row in events if row["kind"] in TOLD]
    assert told == life.events
    assert [kind for kind, _ in told].count("started") == row["attempt"]
    completed = told.count(("finished", OperationStatus.COMPLETED))
    assert completed == int(life.status is OperationStatus.COMPLETED)


@pytest.fixture
def ground(database: Settings) -> Iterator[Ground]:
    """An empty database, and what works on it."""
    with asyncio.Runner() as runner:
        pool = make_pool(database, "machine", max_size=4)
        runner.run(pool.open())
        yield Ground(pool, runner)
        runner.run(pool.close())


@pytest.mark.timeout(3600)
def test_no_sequence_of_events_leads_to_a_state_that_must_not_be(ground: Ground) -> None:
    machine = type("Machine", (OperationMachine,), {"ground": ground})
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
