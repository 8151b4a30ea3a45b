"""Executes a plan: the only place that does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from ktrdr.deployment import compare, events, faults, handover, preflight
from ktrdr.deployment.clock import Clock
from ktrdr.deployment.commands import sections
from ktrdr.deployment.commands.script import Script, render
from ktrdr.deployment.compare import Action, Comparison
from ktrdr.deployment.containers import Snapshot
from ktrdr.deployment.events import Observer
from ktrdr.deployment.gate import HealthGate, WorkerDirectory
from ktrdr.deployment.plan import Plan
from ktrdr.deployment.result import DeployResult, ServiceState
from ktrdr.deployment.steps import Step, StepKind
from ktrdr.deployment.transport.interface import RemoteResult, Stream, Transport
from ktrdr.errors import DeploymentFailed, Interrupted, KtrdrError
from ktrdr.secret import Secret

_UNDO_TIMEOUT_S: Final = 20.0


class CountingTransport(Transport, Protocol):
    """A transport that knows how much it was used."""

    @property
    def connections(self) -> int:
        """How many connections were opened."""
        ...

    @property
    def scripts(self) -> int:
        """How many scripts were sent."""
        ...


@dataclass(slots=True)
class Runner:
    """Runs one plan.

    Attributes:
        plan: What to do.
        values: The secrets that its scripts need, by name.
        transport: How to reach the host.
        observe: Is told all that happens.
        agree: Is given what could be lost, each in one sentence; raises where that is not wanted.
        directory: Asks the backend for its workers.
        clock: The time.
    """

    plan: Plan
    values: Mapping[str, Secret]
    transport: CountingTransport
    observe: Observer
    agree: Callable[[Sequence[str]], None]
    directory: WorkerDirectory
    clock: Clock = field(default_factory=Clock)
    _undo: list[Script] = field(default_factory=list)
    _gate: HealthGate = field(init=False)

    def __post_init__(self) -> None:
        self._gate = HealthGate(self.plan, self._run, self.directory, self.observe, self.clock)

    def run(self) -> DeployResult:
        """Deploys, and returns once all is well.

        Raises:
            HostUnreachable: The host cannot be reached.
            HostNotReady: It cannot run the stack.
            ImageError: An image cannot be had.
            ConfigurationError: Compose does not accept the configuration.
            DeploymentFailed: The stack did not come up, or not become healthy.
            Interrupted: Ctrl-C, SIGTERM, or a no to the question whether to go on.
        """
        began = self.clock.monotonic()
        with self._undoing():
            self._check()
            comparison = self._fetch()
            self._apply(comparison)
            after = self._verify(comparison.before)
        return self._result(comparison, after, self.clock.monotonic() - began)

    def _check(self) -> None:
        step = self.plan.step(StepKind.CHECK)
        if step is None:
            self.observe(events.StepSkipped("check the host", "--skip-validation"))
            return
        with self._timed(step) as done:
            result = self._send(step)
            if result.exit_code:
                raise faults.looking_failed(self.plan, "readiness", result)
            facts = preflight.read_facts(result.stdout)
            preflight.check(self.plan, facts, now=self.clock.now())
            # Without what a distribution appends.
            engine = facts["docker"].partition("+")[0]
            done.append(f"Docker {engine}, Compose {facts['compose'].lstrip('v')}")

    def _fetch(self) -> Comparison:
        step = self._step(StepKind.FETCH)
        with self._timed(step) as done:
            self._may_need_undoing(step)
            result = self._send(step)
            found = sections.split(result.stdout)
            if result.exit_code:
                phase = next(reversed(found), "stage")
                raise faults.fetching_failed(self.plan, phase, result)
            comparison = compare.compare(self.plan, found)
            done.append(_summary(comparison))
        self.observe(events.Compared(comparison))
        return comparison

    def _apply(self, comparison: Comparison) -> None:
        step = self._step(StepKind.APPLY)
        if comparison.is_empty:
            self.observe(events.StepSkipped(step.title, "nothing to do"))
            return
        if comparison.losses:
            self.agree(comparison.losses)
        with self._timed(step):
            self._may_need_undoing(step)
            result = self._send(step)
            if result.exit_code:
                error = faults.applying_failed(self.plan, result)
                if isinstance(error, DeploymentFailed):
                    self._gate.show_logs_of_unwell(self._step(StepKind.VERIFY))
                raise error
            for remark in handover.remarks(self.plan.site, sections.split(result.stdout)):
                self._gate.warn(remark)
        self._undo.clear()

    def _verify(self, before: Snapshot) -> Snapshot:
        step = self._step(StepKind.VERIFY)
        with self._timed(step) as done:
            after = self._gate.wait(step, before)
            done.append(f"{len(self.plan.wanted)} of {len(self.plan.wanted)} healthy")
        return after

    def _result(self, comparison: Comparison, after: Snapshot, duration_s: float) -> DeployResult:
        names = [service.name for service in self.plan.wanted]
        changes = compare.happened(comparison.before, after, names)
        return DeployResult(
            plan=self.plan,
            services=tuple(ServiceState(change, after.get(change.service)) for change in changes),
            files=comparison.files,
            warnings=tuple(self._gate.warnings),
            duration_s=duration_s,
            connections=self.transport.connections,
            scripts=self.transport.scripts,
        )

    def _may_need_undoing(self, step: Step) -> None:
        if step.undo:
            self._undo.append(step.undo)

    def _step(self, kind: StepKind) -> Step:
        step = self.plan.step(kind)
        if step is None:
            raise ValueError(f"a plan without the step {kind}")
        return step

    def _send(self, step: Step) -> RemoteResult:
        return self._run(step.script, step.timeout_s)

    def _run(self, script: Script, timeout_s: float, *, observed: bool = True) -> RemoteResult:
        def on_line(stream: Stream, line: str) -> None:
            self.observe(events.Output(stream, line))

        rendered = render(script, self.values)
        return self.transport.run(
            self.plan.site.host,
            rendered,
            timeout_s=timeout_s,
            on_line=on_line if observed else None,
        )

    @contextmanager
    def _timed(self, step: Step) -> Iterator[list[str]]:
        """Tells of a step's beginning and end; what is put into the list is told with the end."""
        began = self.clock.monotonic()
        self.observe(events.StepStarted(step.title, step.host))
        details: list[str] = []
        try:
            yield details
        except BaseException:
            self.observe(events.StepFailed(step.title, self.clock.monotonic() - began))
            raise
        took = self.clock.monotonic() - began
        self.observe(events.StepFinished(step.title, took, "; ".join(details)))

    @contextmanager
    def _undoing(self) -> Iterator[None]:
        """Takes back what steps left behind, if the deploy does not come to its end."""
        try:
            yield
        except KeyboardInterrupt as exc:
            self._take_back()
            raise Interrupted(
                f"the deploy of {self.plan.site.name} was interrupted",
                hint="What ran on the host was ended; the same command again finishes the work.",
            ) from exc
        except KtrdrError:
            self._take_back()
            raise

    def _take_back(self) -> None:
        for script in reversed(self._undo):
            try:
                self._run(script, _UNDO_TIMEOUT_S)
            except (KtrdrError, KeyboardInterrupt):
                # The cause is already on its way to the operator; the next deploy tidies up.
                return


def _summary(comparison: Comparison) -> str:
    counts = {
        action: sum(change.action is action for change in comparison.services) for action in Action
    }
    return ", ".join(f"{count} {action.intention}" for action, count in counts.items() if count)
