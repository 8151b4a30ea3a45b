"""Executes a plan: the only place that does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import Final, Protocol

from ktrdr.contracts import Worker
from ktrdr.deployment import compare, containers, events, faults, health, preflight
from ktrdr.deployment.commands import docker, sections
from ktrdr.deployment.commands.script import Script, render
from ktrdr.deployment.compare import Action, Comparison
from ktrdr.deployment.containers import Snapshot, read_answers, read_containers
from ktrdr.deployment.events import Observer
from ktrdr.deployment.health import Trouble
from ktrdr.deployment.plan import Plan
from ktrdr.deployment.result import DeployResult, ServiceState
from ktrdr.deployment.steps import Step, StepKind
from ktrdr.deployment.transport.interface import RemoteResult, Stream, Transport
from ktrdr.errors import DeploymentFailed, Interrupted, KtrdrError
from ktrdr.secret import Secret

_LOG_LINES: Final = 20
_LOOK_EVERY_S: Final = 0.5
_UNDO_TIMEOUT_S: Final = 20.0
_LOGS_TIMEOUT_S: Final = 30.0

# Asks the backend which workers it knows.
WorkerDirectory = Callable[[], Sequence[Worker]]


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


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the runner gets time from; tests bring their own."""

    now: Callable[[], datetime] = _now
    monotonic: Callable[[], float] = monotonic
    sleep: Callable[[float], None] = sleep


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
    _undo: list[tuple[str, Script]] = field(default_factory=list)
    _warnings: list[str] = field(default_factory=list)

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
            done.append(f"Docker {facts['docker']}, Compose {facts['compose'].lstrip('v')}")

    def _fetch(self) -> Comparison:
        step = self._step(StepKind.FETCH)
        with self._timed(step) as done:
            if step.undo:
                self._undo.append((step.host, step.undo))
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
            result = self._send(step)
            if result.exit_code:
                error = faults.applying_failed(self.plan, result)
                if isinstance(error, DeploymentFailed):
                    self._show_logs(self._unwell_now())
                raise error

    def _verify(self, before: Snapshot) -> Snapshot:
        step = self._step(StepKind.VERIFY)
        restarts = {container.id: container.restarts for container in before.values()}
        with self._timed(step) as done:
            began = self.clock.monotonic()
            while True:
                after, troubles = self._look(step, restarts)
                waited = self.clock.monotonic() - began
                if not troubles:
                    break
                late = waited >= self.plan.health_timeout_s
                if late or any(trouble.final for trouble in troubles):
                    self._show_logs({trouble.service: after for trouble in troubles})
                    raise faults.unhealthy(self.plan, troubles, self.plan.health_timeout_s)
                first = troubles[0]
                self.observe(events.Waiting(f"{first.service} {first.reason}"))
                self.clock.sleep(_LOOK_EVERY_S)
            done.append(f"{len(self.plan.wanted)} of {len(self.plan.wanted)} healthy")
        return after

    def _look(
        self, step: Step, restarts: Mapping[str, int]
    ) -> tuple[Snapshot, tuple[Trouble, ...]]:
        result = self._send(step)
        if result.exit_code:
            raise faults.looking_failed(self.plan, "containers", result)
        found = sections.split(result.stdout)
        there = read_containers(found.get("containers", ()))
        troubles = health.judge(
            self.plan.wanted,
            there,
            read_answers(found.get("answers", ())),
            tag=self.plan.release.tag,
            restarts_before=restarts,
            now=containers.read_clock(found.get("clock", ())) or self.clock.now(),
        )
        return there, troubles or self._missing_workers()

    def _missing_workers(self) -> tuple[Trouble, ...]:
        """The workers that say they are registered, and that the backend does not list."""
        if not any(service.worker_url for service in self.plan.wanted):
            return ()
        try:
            known = self.directory()
        except KtrdrError as error:
            # Each worker has been told by the backend that it is registered. That this machine
            # cannot ask as well is worth a warning, and no reason to call the deploy failed.
            self._warn(
                f"the backend could not be asked for its workers from here ({error.message}); "
                "the workers themselves say that they are registered"
            )
            return ()
        return health.missing_from(known, self.plan.wanted, self.plan.release.tag)

    def _unwell_now(self) -> dict[str, Snapshot]:
        result = self._send(self._step(StepKind.VERIFY))
        there = read_containers(sections.split(result.stdout).get("containers", ()))
        return {
            name: there
            for name, container in there.items()
            if not container.is_running or container.health == "unhealthy"
        }

    def _show_logs(self, unwell: Mapping[str, Snapshot]) -> None:
        ids = {there[name].id: name for name, there in unwell.items() if name in there}
        if not ids:
            return
        script = Script(docker.logs(ids, lines=_LOG_LINES))
        result = self._run(self.plan.site.host, script, _LOGS_TIMEOUT_S)
        for container_id, lines in sections.split(result.stdout).items():
            if container_id in ids:
                self.observe(events.LogTail(ids[container_id], tuple(lines)))

    def _result(self, comparison: Comparison, after: Snapshot, duration_s: float) -> DeployResult:
        names = [service.name for service in self.plan.wanted]
        changes = compare.happened(comparison.before, after, names)
        return DeployResult(
            plan=self.plan,
            services=tuple(ServiceState(change, after.get(change.service)) for change in changes),
            files=comparison.files,
            warnings=tuple(self._warnings),
            duration_s=duration_s,
            connections=self.transport.connections,
            scripts=self.transport.scripts,
        )

    def _step(self, kind: StepKind) -> Step:
        step = self.plan.step(kind)
        if step is None:
            raise ValueError(f"a plan without the step {kind}")
        return step

    def _send(self, step: Step) -> RemoteResult:
        return self._run(step.host, step.script, step.timeout_s)

    def _run(self, host: str, script: Script, timeout_s: float) -> RemoteResult:
        def on_line(stream: Stream, line: str) -> None:
            self.observe(events.Output(stream, line))

        return self.transport.run(
            host, render(script, self.values), timeout_s=timeout_s, on_line=on_line
        )

    def _warn(self, message: str) -> None:
        self._warnings.append(message)
        self.observe(events.Warned(message))

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
        for host, script in reversed(self._undo):
            try:
                self._run(host, script, _UNDO_TIMEOUT_S)
            except (KtrdrError, KeyboardInterrupt):
                # The cause is already on its way to the operator; the next deploy tidies up.
                return


def _summary(comparison: Comparison) -> str:
    counts = {
        action: sum(change.action is action for change in comparison.services) for action in Action
    }
    return ", ".join(f"{count} {action.value}" for action, count in counts.items() if count)
