"""Carries out the plan for one host, step by step: the only place that does."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy import comparison as compare
from ktrdr.deployment.deploy import events, preflight
from ktrdr.deployment.deploy import step_errors as faults
from ktrdr.deployment.deploy.comparison import Action, Comparison
from ktrdr.deployment.deploy.events import Observer
from ktrdr.deployment.deploy.gate import HealthGate, WorkerDirectory
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.deploy.result import HostResult, ServiceState
from ktrdr.deployment.deploy.script_runner import Sender
from ktrdr.deployment.deploy.steps import Step, StepKind
from ktrdr.deployment.homelab import secret_steps as handover
from ktrdr.deployment.hosts import containers, history
from ktrdr.deployment.hosts import history_queries as remembering
from ktrdr.deployment.hosts.containers import Snapshot
from ktrdr.deployment.hosts.history import Entry, Outcome
from ktrdr.deployment.hosts.lock import LOST, Held, lost
from ktrdr.deployment.releases.release import Release
from ktrdr.deployment.scripts import sections
from ktrdr.deployment.scripts.script import Script
from ktrdr.deployment.ssh.interface import RemoteResult, Transport
from ktrdr.errors import (
    DeploymentFailed,
    HostNotReady,
    HostUnreachable,
    Interrupted,
    KtrdrError,
    Locked,
)
from ktrdr.secret import Secret

_DOCKER_RETURNS_S: Final = 60
_DOCKER_LOOK_S: Final = 20.0


class Replan(Protocol):
    """Plans to put a release into place again that a host remembers."""

    def __call__(self, plan: Plan, entry: Entry, release: Release) -> Plan:
        """The plan for the host of ``plan``."""
        ...


@dataclass(slots=True)
class Runner:
    """Runs the plan for one host.

    `prepare` changes nothing; after it, either `carry_out` or `abandon` is called.

    Attributes:
        plan: What to do.
        values: The secrets that its scripts need, by name.
        transport: How to reach the host.
        observe: Is told all that happens.
        directory: Asks the backend for its workers.
        replan: Plans the way back when the release does not become healthy; None leaves the wreck.
        lock_wait_s: How long to wait for somebody else's lock (s).
        stopping: Set when the operator wants everything to stop.
        following: The worker nodes that are deployed after this host.
        clock: The time.
    """

    plan: Plan
    values: Mapping[str, Secret]
    transport: Transport
    observe: Observer
    directory: WorkerDirectory
    replan: Replan | None = None
    lock_wait_s: float = 0.0
    stopping: threading.Event = field(default_factory=threading.Event)
    following: tuple[str, ...] = ()
    clock: Clock = field(default_factory=Clock)
    _lock: Held = field(init=False)
    _gate: HealthGate = field(init=False)
    _sender: Sender = field(init=False)
    _comparison: Comparison | None = None
    _began: float = 0.0
    _has_begun: bool = False

    def __post_init__(self) -> None:
        self._lock = Held(self.transport, self.plan.place, self.plan.owner)
        self._sender = Sender(
            self.plan, self.values, self.transport, self.observe, self.stopping, self.clock
        )
        self._gate = HealthGate(self.plan, self._look, self.directory, self.observe, self.clock)

    def prepare(self) -> Comparison:
        """Locks, checks, and fetches; nothing that runs changes.

        Raises:
            Locked: Somebody else is at it.
            HostUnreachable: The host cannot be reached.
            HostNotReady: It cannot run the stack.
            ImageError: An image cannot be had.
            ConfigurationError: Compose does not accept the configuration.
            Interrupted: Ctrl-C or SIGTERM.
        """
        self._began = self.clock.monotonic()
        try:
            self._take_lock()
            self._check()
            return self._fetch()
        except BaseException:
            self.abandon()
            raise

    @property
    def has_work(self) -> bool:
        """Whether anything is to be changed, as far as that was compared."""
        return self._comparison is not None and not self._comparison.is_empty

    @property
    def losses(self) -> tuple[str, ...]:
        """What could be lost, each in one sentence."""
        return self._comparison.losses if self._comparison else ()

    @property
    def found(self) -> Comparison | None:
        """What `prepare` has found; None before it."""
        return self._comparison

    def abandon(self) -> None:
        """Takes back what `prepare` has done."""
        self._sender.take_back()
        self._lock.give_back()

    def carry_out(self) -> HostResult:
        """Applies, waits until all is well, and writes down what has come of it.

        What goes wrong is a part of the result, together with what was put into place instead.
        """
        comparison = self._compared()
        try:
            if not self._is_well_already(comparison):
                self._apply()
            after = self._verify(comparison)
        except KtrdrError as exc:
            # Whoever releases the lock ends what runs under it.
            error = lost(self.plan.place) if self._lock.was_released else exc
            restored = self._restore(error, comparison)
            if restored is None or not restored.outcome.is_good:
                if isinstance(error, HostNotReady):
                    # Docker went away, and may come back with all of it stopped.
                    self._sender.may_need_undoing(self._step(StepKind.APPLY))
                self._sender.take_back()
            self._record(_outcome_of(error), reason=error.message)
            return self._failure(error, restored)
        outcome = Outcome.DEPLOYED if self._has_begun else Outcome.UNCHANGED
        self._record(outcome, images=comparison.digests)
        return self._success(outcome, comparison, after)

    # ------------------------------------------------------------------------------- the steps

    def _take_lock(self) -> None:
        try:
            self._lock.take(self.lock_wait_s, self.stopping)
        except HostNotReady:
            # Why it cannot lock is as a rule a part of what the check says, with all else.
            self._check()
            raise

    def _check(self) -> None:
        step = self.plan.step(StepKind.CHECK)
        if step is None:
            self.observe(events.StepSkipped("check the host", "--skip-validation"))
            return
        with self._sender.timed(step) as done:
            result = self._sender.send(step)
            if result.exit_code:
                raise faults.looking_failed(self.plan, "readiness", result)
            facts = preflight.read_facts(result.stdout)
            preflight.check(self.plan, facts, now=self.clock.now())
            # Without what a distribution appends.
            engine = facts["docker"].partition("+")[0]
            done.append(f"Docker {engine}, Compose {facts['compose'].lstrip('v')}")

    def _fetch(self) -> Comparison:
        step = self._step(StepKind.FETCH)
        with self._sender.timed(step) as done:
            self._sender.may_need_undoing(step)
            result = self._sender.send(step)
            found = sections.split(result.stdout)
            if result.exit_code:
                phase = next(reversed(found), "stage")
                raise faults.fetching_failed(self.plan, phase, result)
            comparison = compare.compare(self.plan, found)
            done.append(_summary(comparison))
        self._comparison = comparison
        self.observe(events.Compared(comparison))
        for reference, earlier in history.moved(comparison.history, comparison.digests).items():
            self._gate.warn(
                f"{reference} is another image than in release {earlier.id}: its tag was moved"
            )
        return comparison

    def _is_well_already(self, comparison: Comparison) -> bool:
        if not comparison.is_empty:
            return False
        self.observe(events.StepSkipped(self._step(StepKind.APPLY).title, "nothing to do"))
        return True

    def _apply(self) -> None:
        step = self._step(StepKind.APPLY)
        self._lock.check()
        with self._sender.timed(step):
            self._sender.may_need_undoing(step)
            self._has_begun = True
            result = self._sender.send(step)
            if result.exit_code == LOST:
                self._has_begun = False
                raise lost(self.plan.place)
            if result.exit_code:
                error = faults.applying_failed(self.plan, result)
                if isinstance(error, DeploymentFailed):
                    self._gate.show_logs_of_unwell(self._step(StepKind.VERIFY))
                raise error
            found = sections.split(result.stdout)
            for remark in handover.describe_rotation(
                self.plan.site, found, following=self.following
            ):
                self._gate.warn(remark)
        self._sender.settle()

    def _verify(self, comparison: Comparison) -> Snapshot:
        step = self._step(StepKind.VERIFY)
        with self._sender.timed(step) as done:
            # What was found while nothing was to be done is a first look already.
            first = comparison.found if comparison.is_empty else None
            after = self._gate.wait(step, comparison.before, first)
            done.append(f"{len(self.plan.wanted)} of {len(self.plan.wanted)} healthy")
        return after

    def _record(
        self,
        outcome: Outcome,
        *,
        reason: str = "",
        images: Mapping[str, str] | None = None,
    ) -> None:
        """Writes down how it ended, and gives the lock back."""
        entry = replace(
            self.plan.entry,
            outcome=outcome,
            reason=reason,
            duration_s=self._took,
            images=images or {},
            # After a failure the last look is from before what was done about it.
            containers=containers.short_ids(self._gate.found) if outcome.is_good else {},
            contracts=containers.contracts(self._gate.found),
        )
        lines = [entry.ended()] if self._has_begun else [entry.begun(), entry.ended()]
        step = self.plan.builder.record(*lines, good=outcome.is_good)
        try:
            told = self._sender.run(step.script, step.timeout_s, observed=False, even_now=True)
        except KtrdrError:
            told = None
        if told is None or told.exit_code:
            self._gate.warn("the host could not be told how this ended: its history says cut off")
        self._lock.give_back()

    # -------------------------------------------------------------------------------- the way back

    def _restore(self, error: KtrdrError, comparison: Comparison) -> Entry | None:
        """Puts the last good release into place again, where this one went wrong on its own.

        Returns:
            What was recorded of it, whatever came of it; None where nothing was tried.
        """
        if self.replan is None or not self._has_begun or not _can_go_back(error):
            return None
        good = history.running(comparison.history, self.plan.service)
        if good is None:
            self._gate.warn("there is no earlier release to go back to: what failed stays in place")
            return None
        if history.same(good, self.plan.entry):
            self._gate.warn("the last good release is this very one: what failed stays in place")
            return None
        self.observe(events.Restoring(good, error.message))
        return self._put_back(good, error)

    def _put_back(self, good: Entry, error: KtrdrError) -> Entry:
        assert self.replan is not None  # noqa: S101  # `_restore` has looked
        try:
            if isinstance(error, HostNotReady):
                self._wait_for_docker()
            release = remembering.kept(self.plan.place, good, self.transport)
            back = Runner(
                plan=self.replan(self.plan, good, release),
                values=self.values,
                transport=self.transport,
                observe=self.observe,
                directory=self.directory,
                stopping=self.stopping,
                following=self.following,
                clock=self.clock,
            )
            return back.go_back(self._lock)
        except KtrdrError as exc:
            self._gate.warn(f"the way back to {good.tag} failed, too: {exc.message}")
            return replace(good, outcome=_outcome_of(exc), reason=exc.message)

    def _wait_for_docker(self) -> None:
        """Where it went away, as in an upgrade of its package, it comes back as a rule."""
        if self._answers_docker(within_s=0):
            return
        self.observe(events.Waiting(f"Docker on {self.plan.site.host} does not answer"))
        self._answers_docker(within_s=_DOCKER_RETURNS_S)

    def _answers_docker(self, *, within_s: int) -> bool:
        script = Script("scripts/wait_for_docker.sh", (str(within_s),))
        timeout_s = within_s + _DOCKER_LOOK_S
        return self._sender.run(script, timeout_s, observed=False).exit_code == 0

    def go_back(self, lock: Held) -> Entry:
        """Does all of the plan's steps under a lock that another runner has and gives back.

        Returns:
            What was recorded.

        Raises:
            KtrdrError: It failed, which is recorded.
        """
        self._lock, self._began = lock, self.clock.monotonic()
        entry = replace(self.plan.entry, outcome=Outcome.FAILED)
        try:
            comparison = self._fetch()
            self._apply()
            self._verify(comparison)
            entry = replace(
                entry,
                outcome=Outcome.DEPLOYED,
                images=comparison.digests,
                containers=containers.short_ids(self._gate.found),
                contracts=containers.contracts(self._gate.found),
            )
        except KtrdrError as error:
            self._sender.take_back()
            entry = replace(entry, outcome=_outcome_of(error), reason=error.message)
            raise
        finally:
            ended = replace(entry, duration_s=self._took).ended()
            if self._has_begun:
                step = self.plan.builder.record(ended, good=False)
                self._sender.run(step.script, step.timeout_s, observed=False, even_now=True)
        return entry

    # ---------------------------------------------------------------------------------- the ends

    @property
    def _took(self) -> float:
        return self.clock.monotonic() - self._began

    def _success(self, outcome: Outcome, comparison: Comparison, after: Snapshot) -> HostResult:
        names = [service.name for service in self.plan.wanted]
        changes = compare.happened(comparison.before, after, names)
        services = tuple(ServiceState(change, after.get(change.service)) for change in changes)
        return HostResult(
            plan=self.plan,
            outcome=outcome,
            services=services,
            files=comparison.files,
            warnings=tuple(self._gate.warnings),
            duration_s=self._took,
        )

    def _failure(self, error: KtrdrError, restored: Entry | None) -> HostResult:
        return HostResult(
            plan=self.plan,
            outcome=_outcome_of(error),
            warnings=tuple(self._gate.warnings),
            duration_s=self._took,
            error=error,
            restored=restored,
        )

    def _compared(self) -> Comparison:
        if self._comparison is None:
            raise ValueError("prepare comes before carry_out")
        return self._comparison

    def _step(self, kind: StepKind) -> Step:
        step = self.plan.step(kind)
        if step is None:
            raise ValueError(f"a plan without the step {kind}")
        return step

    def _look(self, script: Script, timeout_s: float, *, observed: bool = True) -> RemoteResult:
        """Asks, as long as nobody else may be changing what is asked for."""
        if self._lock.was_released:
            raise lost(self.plan.place)
        return self._sender.run(script, timeout_s, observed=observed)


def _outcome_of(error: KtrdrError) -> Outcome:
    return Outcome.INTERRUPTED if isinstance(error, Interrupted) else Outcome.FAILED


def _can_go_back(error: KtrdrError) -> bool:
    """Whether another release might do better: not where the way there or the operator ended it."""
    return not isinstance(error, (HostUnreachable, Interrupted, Locked))


def _summary(comparison: Comparison) -> str:
    counts = {
        action: sum(change.action is action for change in comparison.services) for action in Action
    }
    return ", ".join(f"{count} {action.intention}" for action, count in counts.items() if count)
