"""The deploy to one host: runs the steps of its plan, and rolls back on failure."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy import events, preflight, step_errors
from ktrdr.deployment.deploy.comparison import Action, Comparison, applied_changes, compare
from ktrdr.deployment.deploy.events import Observer
from ktrdr.deployment.deploy.gate import HealthGate
from ktrdr.deployment.deploy.plan import Plan, Step, StepKind
from ktrdr.deployment.deploy.result import HostResult, ServiceState, outcome_of
from ktrdr.deployment.deploy.script_runner import ScriptRunner
from ktrdr.deployment.hosts import containers
from ktrdr.deployment.hosts.containers import Snapshot
from ktrdr.deployment.hosts.history import DeployOutcome, HistoryEntry, last_good, moved_tags
from ktrdr.deployment.hosts.history_queries import fetch_release
from ktrdr.deployment.hosts.lock import LOCK_LOST, HostLock, lock_lost_error
from ktrdr.deployment.hosts.problems import all_problems, require_none
from ktrdr.deployment.product import Backend
from ktrdr.deployment.releases.release import Release
from ktrdr.deployment.scripts import sections
from ktrdr.deployment.scripts.script import Script
from ktrdr.deployment.ssh.interface import Transport
from ktrdr.errors import (
    DeploymentFailed,
    HostNotReady,
    HostUnreachable,
    Interrupted,
    KtrdrError,
    Locked,
    RolledBack,
)
from ktrdr.secret import Secret

_DOCKER_RETURN_TIMEOUT_S: Final = 60
_DOCKER_QUERY_TIMEOUT_S: Final = 20.0

# Plans the rollback of a host to a release that it keeps.
PlanRollback = Callable[[Plan, HistoryEntry, Release], Plan]


@dataclass(slots=True)
class HostDeployment:
    """Deploy to one host.

    `prepare` changes no service. After it, the caller calls either `apply` or `cancel`.

    Attributes:
        plan: Plan to carry out.
        values: Secrets that its scripts export, by name.
        transport: Connection to the host.
        backend: Lists the registered workers.
        observe: Receives all events.
        plan_rollback: Plans the rollback after a failure; None leaves the failed release in place.
        stopping: Set when the operator interrupts the deploy.
        later_nodes: Worker nodes that the same command deploys after this host.
        skipped: Names of hosts that the same command skipped.
        clock: The time.
        awaits_verdict: Whether `apply` leaves a healthy host locked and its deploy unrecorded, so
            that the caller can call `watch`, and then calls `confirm`.
        held_lock: Lock that the caller holds; None if the deploy acquires its own.
        comparison: Result of `prepare`; None before it.
        is_off: Whether `prepare` found that the host is off, before it did anything there.
    """

    plan: Plan
    values: Mapping[str, Secret]
    transport: Transport
    backend: Backend
    observe: Observer
    plan_rollback: PlanRollback | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    later_nodes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    clock: Clock = field(default_factory=Clock)
    awaits_verdict: bool = False
    held_lock: HostLock | None = None
    comparison: Comparison | None = field(default=None, init=False)
    is_off: bool = field(default=False, init=False)
    _lock: HostLock = field(init=False)
    _runner: ScriptRunner = field(init=False)
    _gate: HealthGate = field(init=False)
    _compose: str = ""
    _began: float = 0.0
    _has_begun: bool = False

    def __post_init__(self) -> None:
        plan = self.plan
        self._lock = self.held_lock or HostLock(self.transport, plan.host, plan.lock_owner)
        self._runner = ScriptRunner(
            host=plan.host,
            lock=self._lock,
            values=self.values,
            transport=self.transport,
            observe=self.observe,
            stopping=self.stopping,
            clock=self.clock,
        )
        self._gate = HealthGate(plan, self._runner, self.backend, self.observe, self.clock)

    def prepare(self) -> None:
        """Lock and check the host, fetch the release, compare, and start a test container.

        No service changes.

        Raises:
            Locked: Another deploy holds the lock.
            HostUnreachable: The host cannot be reached.
            HostNotReady: The host cannot run the stack.
            ImageError: An image cannot be pulled.
            ConfigurationError: Compose rejects the configuration.
            Interrupted: Ctrl-C or SIGTERM.
        """
        self._began = self.clock.monotonic()
        try:
            try:
                self._lock.acquire(self.plan.options.lock_wait, self.stopping)
            except HostNotReady:
                # The check usually reports why the host cannot lock, with everything else.
                self._check()
                raise
            except HostUnreachable as error:
                self.is_off = error.is_off
                raise
            self._check()
            if not self._fetch().is_empty:
                self._start_container()
        except BaseException:
            self.cancel()
            raise

    @property
    def has_changes(self) -> bool:
        """Return whether `prepare` found anything to change."""
        return self.comparison is not None and not self.comparison.is_empty

    def cancel(self) -> None:
        """Undo what `prepare` did, and release the lock."""
        self._runner.undo_all()
        self._lock.release()

    def apply(self) -> HostResult:
        """Apply the release, wait until it is healthy, and confirm it.

        The result contains any error, and the release that was redeployed after it.
        """
        assert self.comparison is not None  # noqa: S101  # the caller has called `prepare`
        comparison = self.comparison
        try:
            if comparison.is_empty:
                title = self._step(StepKind.APPLY).title
                self.observe(events.StepSkipped(title, "nothing to do"))
            else:
                self._apply_release()
            after = self._wait_until_healthy(comparison)
        except KtrdrError as error:
            return self._fail(error, comparison)
        outcome = DeployOutcome.DEPLOYED if self._has_begun else DeployOutcome.UNCHANGED
        names = [service.name for service in self.plan.expected]
        changes = applied_changes(comparison.before, after, names)
        result = HostResult(
            plan=self.plan,
            outcome=outcome,
            services=tuple(ServiceState(change, after.get(change.service)) for change in changes),
            files=comparison.files,
        )
        return result if self.awaits_verdict else self.confirm(result)

    def watch(self, result: HostResult) -> HostResult:
        """Watch a changed host for a time; return the result of `apply`, or a failure."""
        assert self.comparison is not None  # noqa: S101  # as in `apply`
        if not result.changed:
            return result
        soak_s = self.plan.options.soak_s
        step = replace(self._step(StepKind.VERIFY), title=f"watch for {soak_s:g} s")
        try:
            with self._runner.report(step) as details:
                healthy = containers.parse_containers(self._gate.sections.get("containers", ()))
                self._gate.wait(step, healthy, self._gate.sections, soak_s=soak_s)
                details.append("stayed healthy")
        except Interrupted:
            return result
        except KtrdrError as error:
            return self._fail(error, self.comparison)
        return result

    def confirm(self, result: HostResult, failed: str = "") -> HostResult:
        """Record a good result, or roll back because of other hosts; then release the lock.

        Args:
            result: Result of `apply` or `watch`, which is returned as it is if it is a failure.
            failed: Names of the hosts that failed; empty to keep the release.
        """
        if result.error:
            return result
        name, restored = self.plan.host.name, None
        error = RolledBack(
            f"{name} was rolled back, because of a failure on {failed}",
            hint="Fix the failed hosts, and deploy again.",
        )
        if failed and result.changed and self.comparison:
            restored = self._roll_back(error, self.comparison)
        if restored is None and result.outcome:
            self._record(result.outcome)
            warnings = tuple(self._gate.warnings)
            return replace(result, warnings=warnings, duration_s=self._duration_s)
        if restored and not restored.outcome.is_good:
            error = RolledBack(f"{name} could not be rolled back: {restored.reason}")
        return self._end_failed(error, restored)

    def _fail(self, exc: KtrdrError, comparison: Comparison) -> HostResult:
        """Roll back after a failure, record it, and return the result."""
        # Releasing the lock from outside ends what runs under it.
        error = lock_lost_error(self.plan.host) if self._lock.was_broken else exc
        restored = self._roll_back(error, comparison)
        if restored is None or not restored.outcome.is_good:
            if isinstance(error, HostNotReady):
                # Docker stopped, and may start again without the services.
                self._runner.push_undo(self._step(StepKind.APPLY))
            self._runner.undo_all()
        return self._end_failed(error, restored)

    def _end_failed(self, error: KtrdrError, restored: HistoryEntry | None) -> HostResult:
        self._record(outcome_of(error), reason=error.message)
        return HostResult(
            plan=self.plan,
            outcome=outcome_of(error),
            warnings=tuple(self._gate.warnings),
            duration_s=self._duration_s,
            error=error,
            restored=restored,
        )

    # ----------------------------------------------------------------------------------- the steps

    def _check(self) -> None:
        step = self.plan.step(StepKind.CHECK)
        if step is None:
            self.observe(events.StepSkipped("check the host", "--skip-validation"))
            return
        with self._runner.report(step) as details:
            result = self._runner.run(step.script, step.timeout_s)
            if result.exit_code:
                raise step_errors.query_error(self.plan, "readiness", result)
            facts = preflight.parse_facts(result.stdout)
            results = preflight.check_host(self.plan, facts, now=self.clock.now())
            require_none(f"{self.plan.host.address} is not ready", all_problems(results))
            # Distributions append to the engine's version.
            engine, self._compose = facts["docker"].partition("+")[0], facts["compose"]
            details.append(f"Docker {engine}, Compose {facts['compose'].lstrip('v')}")

    def _fetch(self) -> Comparison:
        step = self._step(StepKind.FETCH)
        with self._runner.report(step) as details:
            self._runner.push_undo(step)
            result = self._runner.run(step.script, step.timeout_s)
            found = sections.split(result.stdout)
            if result.exit_code:
                phase = next(reversed(found), "stage")
                raise step_errors.fetch_error(self.plan, phase, result)
            comparison = compare(self.plan, found, self._compose)
            details.append(_count_actions(comparison))
        self.comparison = comparison
        self.observe(events.Compared(comparison))
        actions = {change.action for change in comparison.services}
        if comparison.compose_note and Action.RECREATED in actions:
            self._gate.warn(comparison.compose_note)
        for reference, entry in moved_tags(comparison.history, comparison.digests).items():
            # Another index of the same manifest leaves the release's containers as they are.
            if not comparison.keeps(reference, entry):
                self._gate.warn(
                    f"{reference} refers to a different image than in release {entry.id}: "
                    "its tag was moved"
                )
        return comparison

    def _start_container(self) -> None:
        step = self.plan.step(StepKind.START)
        if step is None:
            return
        with self._runner.report(step):
            result = self._runner.run(step.script, step.timeout_s)
            if result.exit_code:
                raise step_errors.start_error(self.plan, result)

    def _apply_release(self) -> None:
        step = self._step(StepKind.APPLY)
        self._lock.ensure_held()
        with self._runner.report(step):
            self._runner.push_undo(step)
            self._has_begun = True
            result = self._runner.run(step.script, step.timeout_s)
            if result.exit_code == LOCK_LOST:
                self._has_begun = False
                raise lock_lost_error(self.plan.host)
            if result.exit_code:
                error = step_errors.apply_error(self.plan, result)
                if isinstance(error, DeploymentFailed):
                    self._gate.show_unhealthy_logs(self._step(StepKind.VERIFY))
                raise error
            found = sections.split(result.stdout)
            for warning in self.plan.product.rotation_warnings(found, self.plan, self.later_nodes):
                self._gate.warn(warning)
        self._runner.commit()

    def _wait_until_healthy(self, comparison: Comparison) -> Snapshot:
        step = self._step(StepKind.VERIFY)
        with self._runner.report(step) as details:
            # If there was nothing to do, the fetch step's output serves as the first query.
            first = comparison.sections if comparison.is_empty else None
            after = self._gate.wait(step, comparison.before, first)
            details.append(f"{len(self.plan.expected)} of {len(self.plan.expected)} healthy")
        return after

    def _record(self, outcome: DeployOutcome, *, reason: str = "") -> None:
        """Record the outcome on the host, and release the lock."""
        entry = replace(
            self.plan.entry,
            outcome=outcome,
            reason=reason,
            duration_s=self._duration_s,
            skipped=self.skipped,
            # After a failure, the last query predates the rollback.
            containers=containers.short_ids(self._gate.sections) if outcome.is_good else {},
            contract_migrations=containers.known_contract_migrations(self._gate.sections),
        ).with_digests(self.comparison.digests if self.comparison else {})
        begun = [] if self._has_begun else [entry.begun_event()]
        step = self.plan.record(*begun, entry.ended_event(), good=outcome.is_good)
        try:
            result = self._runner.run(step.script, step.timeout_s, observed=False, ignore_stop=True)
            is_recorded = result.exit_code == 0
        except KtrdrError:
            is_recorded = False
        if not is_recorded:
            self._gate.warn(
                "the outcome could not be recorded: the host's history will show it as cut off"
            )
        self._lock.release()

    # ------------------------------------------------------------------------ automatic rollback

    def _roll_back(self, error: KtrdrError, comparison: Comparison) -> HistoryEntry | None:
        """Redeploy the last good release, if the failed one may be the cause.

        Returns:
            The recorded entry of the redeploy, whatever its outcome; None if none was tried.
        """
        # Another release does not help if the connection or the operator ended this one.
        if isinstance(error, (HostUnreachable, Interrupted, Locked)):
            return None
        if self.plan_rollback is None or not self._has_begun:
            return None
        good = last_good(comparison.history, self.plan.service)
        if good is None:
            self._gate.warn(
                "there is no earlier release to roll back to: the failed release stays in place"
            )
            return None
        if good.is_same_release(self.plan.entry):
            self._gate.warn(
                "this release is also the last good one: the failed release stays in place"
            )
            return None
        self.observe(events.RollbackStarted(good, error.message))
        try:
            if isinstance(error, HostNotReady):
                self._wait_for_docker()
            release = fetch_release(self.plan.host, good, self.transport)
            rollback = HostDeployment(
                plan=self.plan_rollback(self.plan, good, release),
                values=self.values,
                transport=self.transport,
                backend=self.backend,
                observe=self.observe,
                stopping=self.stopping,
                later_nodes=self.later_nodes,
                clock=self.clock,
                held_lock=self._lock,
            )
            return rollback.redeploy()
        except KtrdrError as exc:
            self._gate.warn(f"the rollback to {good.tag} failed, too: {exc.message}")
            return replace(good, outcome=outcome_of(exc), reason=exc.message)

    def _wait_for_docker(self) -> None:
        """Wait for Docker; an upgrade of its package, for example, stops it for a while."""

        def responds(within_s: int) -> bool:
            script = Script("scripts/wait_for_docker.sh", (str(within_s),))
            timeout_s = within_s + _DOCKER_QUERY_TIMEOUT_S
            return self._runner.run(script, timeout_s, observed=False).exit_code == 0

        if not responds(0):
            self.observe(events.Waiting(f"Docker on {self.plan.host.address} does not respond"))
            responds(_DOCKER_RETURN_TIMEOUT_S)

    def redeploy(self) -> HistoryEntry:
        """Fetch, apply, verify and record under a lock that the caller holds and releases.

        Returns:
            The recorded entry.

        Raises:
            KtrdrError: The redeploy failed; the failure is recorded.
        """
        self._began = self.clock.monotonic()
        entry = replace(self.plan.entry, outcome=DeployOutcome.FAILED)
        try:
            comparison = self._fetch()
            self._apply_release()
            self._wait_until_healthy(comparison)
            entry = replace(
                entry,
                outcome=DeployOutcome.DEPLOYED,
                containers=containers.short_ids(self._gate.sections),
                contract_migrations=containers.known_contract_migrations(self._gate.sections),
            ).with_digests(comparison.digests)
        except KtrdrError as error:
            self._runner.undo_all()
            entry = replace(entry, outcome=outcome_of(error), reason=error.message)
            raise
        finally:
            if self._has_begun:
                ended = replace(entry, duration_s=self._duration_s).ended_event()
                step = self.plan.record(ended, good=False)
                self._runner.run(step.script, step.timeout_s, observed=False, ignore_stop=True)
        return entry

    @property
    def _duration_s(self) -> float:
        return self.clock.monotonic() - self._began

    def _step(self, kind: StepKind) -> Step:
        step = self.plan.step(kind)
        assert step is not None  # noqa: S101  # only what checks the host can be left out
        return step


def _count_actions(comparison: Comparison) -> str:
    counts = {
        action: sum(change.action is action for change in comparison.services) for action in Action
    }
    return ", ".join(f"{count} {action.planned_label}" for action, count in counts.items() if count)
