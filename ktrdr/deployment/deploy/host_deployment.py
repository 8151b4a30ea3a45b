"""The deploy to one host: runs the steps of its plan, and rolls back on failure."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy import events, preflight, step_errors
from ktrdr.deployment.deploy.comparison import Action, Comparison, applied_changes, compare
from ktrdr.deployment.deploy.events import Observer
from ktrdr.deployment.deploy.gate import HealthGate
from ktrdr.deployment.deploy.plan import GO_BACK_TIMEOUT_S, Plan, Step, StepKind
from ktrdr.deployment.deploy.result import HostResult, ServiceState, outcome_of
from ktrdr.deployment.deploy.script_runner import ScriptRunner
from ktrdr.deployment.hosts import containers
from ktrdr.deployment.hosts.actions import DRAIN, HistoryAction, parse_actions
from ktrdr.deployment.hosts.containers import Snapshot
from ktrdr.deployment.hosts.history import (
    DeployOutcome,
    HistoryEntry,
    last_good,
    missing_way_back,
    moved_tags,
    parse_history,
)
from ktrdr.deployment.hosts.history_queries import fetch_release
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.hosts.lock import LOCK_LOST, HostLock, lock_lost_error
from ktrdr.deployment.hosts.problems import all_problems, require_none
from ktrdr.deployment.hosts.queries import workdir_error
from ktrdr.deployment.product import Backend
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
    RolledBack,
)
from ktrdr.secret import Secret

# Exit code of record.sh if the host has already gone back by itself.
_DECIDED: Final = 73

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
        awaits_verdict: Whether `apply` leaves a healthy host locked and its deploy unconfirmed, so
            that the caller can call `watch`, and then calls `confirm`.
        comparison: Result of `prepare`; None before it.
        is_off: Whether `prepare` found that the host is off, before it did anything there.
        names: Names of the command's hosts by project and identity, which the hosts share.
        also: What the history says that the deploy did besides.
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
    comparison: Comparison | None = field(default=None, init=False)
    is_off: bool = field(default=False, init=False)
    names: dict[tuple[str, str], str] = field(default_factory=dict)
    also: list[str] = field(default_factory=list)
    _lock: HostLock = field(init=False)
    _runner: ScriptRunner = field(init=False)
    _gate: HealthGate = field(init=False)
    _way_back: Plan | None = None
    _good: HistoryEntry | None = None
    _no_way_back: str = ""
    _is_applied: bool = False
    _is_left: bool = False
    _compose: str = ""
    _began: float = 0.0
    _has_begun: bool = False

    def __post_init__(self) -> None:
        plan = self.plan
        self._lock = HostLock(self.transport, plan.host, plan.lock_owner)
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
            if self._has_begun and self.plan.options.is_detached:
                return self._leave_to_host()
            after = self._wait_until_healthy(comparison)
        except KtrdrError as error:
            return self._fail(error)
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
        if not result.changed or result.is_left:
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
            return self._fail(error)
        return result

    def confirm(self, result: HostResult, failed: str = "") -> HostResult:
        """Record a good result, or roll back because of other hosts; then release the lock.

        Args:
            result: Result of `apply` or `watch`, which is returned as it is if it is a failure.
            failed: Names of the hosts that failed; empty to keep the release.
        """
        if result.error or result.is_left:
            return result
        name, restored = self.plan.host.name, None
        error = RolledBack(
            f"{name} was rolled back, because of a failure on {failed}",
            hint="Fix the failed hosts, and deploy again.",
        )
        if failed and result.changed:
            restored = self._go_back(error)
        if restored is None and result.outcome and not self._is_left:
            try:
                self._record(result.outcome)
            except KtrdrError as exc:
                return self._fail(exc)
            self._end_abandoned_drains()
            self._lock.release()
            warnings = tuple(self._gate.warnings)
            return replace(result, warnings=warnings, duration_s=self._duration_s)
        if restored and not restored.outcome.is_good:
            error = RolledBack(f"{name} could not be rolled back: {restored.reason}")
        return self._end_failed(error, restored)

    def _fail(self, exc: KtrdrError) -> HostResult:
        """Go back after a failure, record it, and return the result."""
        # Releasing the lock from outside ends what runs under it.
        error = self._lock.lost_error() if self._lock.was_broken else exc
        restored = self._go_back(error)
        if not self._has_begun:
            self._runner.undo_all()
        return self._end_failed(error, restored)

    def _end_failed(self, error: KtrdrError, restored: HistoryEntry | None) -> HostResult:
        if not self._is_left:
            self._record(outcome_of(error), reason=error.message)
        self._lock.release()
        return HostResult(
            plan=self.plan,
            outcome=outcome_of(error),
            warnings=tuple(self._gate.warnings),
            duration_s=self._duration_s,
            error=error,
            restored=restored,
            is_left=self._is_left,
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
            now = self.clock.now()
            results = preflight.check_host(self.plan, facts, now=now, names=self.names)
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
        workdirs = [each.workdir for each in comparison.before.values()]
        error = workdir_error(self.plan.host, workdirs)
        if error and self.plan.step(StepKind.CHECK):
            raise error
        self.comparison = comparison
        self.observe(events.Compared(comparison))
        if comparison.before and not comparison.is_empty and self.plan_rollback:
            reason = missing_way_back(comparison.history, self.plan.service, found.get("kept"))
            if reason:
                self._gate.warn(preflight.way_back_warning(self.plan, reason))
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
        with self._runner.report(self._step(StepKind.APPLY)):
            result = self._hand_over()
            if result.exit_code:
                error = step_errors.apply_error(self.plan, result)
                if isinstance(error, DeploymentFailed):
                    self._gate.show_unhealthy_logs(self._step(StepKind.VERIFY))
                raise error
            found = sections.split(result.stdout)
            rotated = (line.split() for line in found.get("rotated", ()))
            self.also += [f"rotated {name}" for name, *state in rotated if state != ["unknown"]]
            for warning in self.plan.product.rotation_warnings(found, self.plan, self.later_nodes):
                self._gate.warn(warning)
        self._is_applied = True

    def _hand_over(self, *, is_applied: bool = False) -> RemoteResult:
        """Have the host apply the release, which it goes back from unless `_record` confirms it.

        Args:
            is_applied: Whether the release runs already.
        """
        assert self.comparison is not None  # noqa: S101  # as in `apply`
        self._way_back = self._find_way_back()
        if is_applied and self._way_back is None:
            raise DeploymentFailed(self._no_way_back)
        ended = self.plan.entry.with_digests(self.comparison.digests)
        step = self.plan.apply(self._way_back, ended, is_applied=is_applied)
        self._lock.ensure_held()
        self._has_begun = True
        result = self._runner.run(step.script, step.timeout_s)
        if result.exit_code == LOCK_LOST:
            self._has_begun = False
            raise lock_lost_error(self.plan.host)
        return result

    def _wait_until_healthy(self, comparison: Comparison) -> Snapshot:
        step = self._step(StepKind.VERIFY)
        with self._runner.report(step) as details:
            # If there was nothing to do, the fetch step's output serves as the first query.
            first = comparison.sections if comparison.is_empty else None
            after = self._gate.wait(step, comparison.before, first)
            details.append(f"{len(self.plan.expected)} of {len(self.plan.expected)} healthy")
        return after

    def _record(self, outcome: DeployOutcome, *, reason: str = "") -> None:
        """Record the outcome on the host, which confirms the deploy if it is good.

        Raises:
            DeploymentFailed: The host went back before, because the confirmation took too long.
        """
        entry = replace(
            self.plan.entry,
            outcome=outcome,
            reason=reason,
            duration_s=self._duration_s,
            skipped=self.skipped,
            also=tuple(self.also),
            # After a failure, the last query predates the rollback.
            containers=containers.short_ids(self._gate.sections) if outcome.is_good else {},
            contract_migrations=containers.known_contract_migrations(self._gate.sections),
        ).with_digests(self.comparison.digests if self.comparison else {})
        begun = [] if self._has_begun else [entry.begun_event()]
        good, ends = outcome.is_good, self._has_begun
        step = self.plan.record(*begun, entry.ended_event(), good=good, ends=ends, copied=ends)
        try:
            result = self._runner.run(step.script, step.timeout_s, observed=False, ignore_stop=True)
        except KtrdrError as error:
            if good and ends:
                # The host goes back by itself.
                raise
            self._gate.warn(f"the outcome could not be recorded: {error.message}")
            return
        if result.exit_code == _DECIDED:
            raise DeploymentFailed(
                f"{self.plan.host.name} went back by itself, because the deploy was not confirmed "
                "in time",
                hint="Run the command again, with a longer --confirm-within.",
            )
        if result.exit_code:
            self._gate.warn(f"the outcome could not be recorded: {result.reason()}")

    def _leave_to_host(self) -> HostResult:
        """Let the host finish the deploy by itself."""
        self._lock.release()
        return HostResult(
            plan=self.plan,
            outcome=DeployOutcome.DETACHED,
            files=self.comparison.files if self.comparison else (),
            warnings=tuple(self._gate.warnings),
            duration_s=self._duration_s,
            is_left=True,
        )

    def _append(self, *lines: str) -> bool:
        """Append events to the host's history; return whether they are there."""
        # What changed nothing is copied with the next change.
        step = self.plan.record(*lines, good=False, ends=False, copied=self._has_begun)
        try:
            result = self._runner.run(step.script, step.timeout_s, observed=False, ignore_stop=True)
        except KtrdrError:
            return False
        return result.exit_code == 0

    def record_drain(self, outcome: DeployOutcome, deploy: DeployId | None = None) -> None:
        """Record the drain of this deploy, or the end of an earlier deploy's drain."""
        action = HistoryAction(deploy or self.plan.entry.deploy, DRAIN, outcome=outcome)
        self._append(action.event())

    @property
    def abandoned_drains(self) -> list[DeployId]:
        """Return the deploys that were cut off while they drained this node.

        None of them runs any more, because this one holds the lock.
        """
        lines = self.comparison.sections.get("history", ()) if self.comparison else ()
        drains = (each for each in parse_actions(lines) if each.kind == DRAIN)
        return [each.deploy for each in drains if each.outcome is DeployOutcome.CUT_OFF]

    def _end_abandoned_drains(self) -> None:
        node = self.plan.host.network_name
        for deploy in self.abandoned_drains:
            # Otherwise the history still shows it, and the next deploy tries again.
            with suppress(KtrdrError):
                self.backend.undrain(node)
                self.record_drain(DeployOutcome.DONE, deploy)
                self._gate.warn(f"{node} gets operations again: deploy {deploy.id} had drained it")

    # ------------------------------------------------------------------------ automatic rollback

    def _find_way_back(self) -> Plan | None:
        """Plan the rollback to the last good release, which the host carries out if need be.

        Raises:
            HostUnreachable: The host cannot be reached.
            Interrupted: Ctrl-C or SIGTERM.
        """
        assert self.comparison is not None  # noqa: S101  # as in `apply`
        if self.plan_rollback is None:
            return None
        self._good = good = last_good(self.comparison.history, self.plan.service)
        if good is None:
            self._no_way_back = "there is no earlier release to roll back to"
        elif good.is_same_release(self.plan.entry):
            self._no_way_back = "this release is also the last good one"
        else:
            try:
                release = fetch_release(self.plan.host, good, self.transport)
                return self.plan_rollback(self.plan, good, release)
            except (HostUnreachable, Interrupted):
                raise
            except KtrdrError as error:
                self._no_way_back = f"there is no way back to {good.tag}: {error.message}"
        return None

    def _go_back(self, error: KtrdrError) -> HistoryEntry | None:
        """Have the host go back, if the failed release may be the cause.

        Returns:
            The entry of the rollback, which the host has recorded; None if there was none.
        """
        if not self._has_begun and isinstance(error, DeploymentFailed):
            # What runs is not healthy, although there was nothing to change.
            with suppress(KtrdrError):
                self._hand_over(is_applied=True)
        if not self._has_begun:
            return None
        back = self._way_back
        if isinstance(error, (HostUnreachable, Locked)):
            self._leave(
                goes_on=self.plan.options.is_detached and isinstance(error, HostUnreachable)
            )
            return None
        if back and self._good:
            self.observe(events.RollbackStarted(self._good, error.message))
        elif self._no_way_back:
            self._gate.warn(f"{self._no_way_back}: the failed release stays in place")
        if back is None and self._is_applied and not isinstance(error, Interrupted):
            return None
        script = Script("scripts/go_back.sh", (self.plan.host.workdir, self.plan.entry.id))
        try:
            result = self._runner.run(script, GO_BACK_TIMEOUT_S, ignore_stop=True)
        except (KtrdrError, KeyboardInterrupt):
            self._leave()
            return None
        return self._find_rollback(back.entry, result) if back else None

    def _find_rollback(self, back: HistoryEntry, result: RemoteResult) -> HistoryEntry | None:
        """Return the entry of a rollback that the host has recorded, or None if there is none."""
        entries = parse_history(sections.split(result.stdout).get("history", ()))
        restored = next((entry for entry in entries if entry.id == back.id), None)
        if restored is None:
            name = self.plan.host.name
            self._gate.warn(f"{name} did not go back: see `ktrdr deploy status {name}`")
        elif not restored.outcome.is_good:
            restored = replace(restored, reason=result.reason() or restored.reason)
            self._gate.warn(f"the rollback to {back.tag} failed, too: {restored.reason}")
        return restored

    def _leave(self, *, goes_on: bool = False) -> None:
        """Leave the end of the deploy, and its record, to the host, which goes on or back."""
        self._is_left = True
        back, name = self._way_back, self.plan.host.name
        does = f"goes back to {back.release.tag}" if back else "starts what this deploy has stopped"
        if goes_on:
            does = "finishes this deploy"
        self._gate.warn(f"{name} {does} by itself: follow it with `ktrdr deploy watch {name}`")

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
