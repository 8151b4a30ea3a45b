"""The health gate: looks at the host until all is well, or certainly not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy import step_errors as faults
from ktrdr.deployment.deploy.events import Observer
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.deploy.steps import Step
from ktrdr.deployment.hosts import containers, health
from ktrdr.deployment.hosts.containers import Snapshot
from ktrdr.deployment.hosts.health import Trouble
from ktrdr.deployment.scripts import sections
from ktrdr.deployment.scripts.script import Script
from ktrdr.deployment.ssh.interface import RemoteResult
from ktrdr.errors import KtrdrError
from ktrdr.secret import hide_assigned

if TYPE_CHECKING:
    from ktrdr.schemas import Worker

# Room for the end of one attempt and the whole of the next, where a program starts again and again.
_LOG_LINES: Final = 40
# Asked for beyond those and not shown: a secret of many lines that the first of them cuts in two
# could not be recognised.
_MARGIN_LINES: Final = 100
_LOOK_EVERY_S: Final = 0.5
_LOGS_TIMEOUT_S: Final = 30.0

# Asks the backend which workers it knows.
WorkerDirectory = Callable[[], "Sequence[Worker]"]


class Send(Protocol):
    """Runs scripts on the plan's host."""

    def __call__(self, script: Script, timeout_s: float, *, observed: bool = True) -> RemoteResult:
        """Runs one for so many seconds at most; where it is observed, its lines are told of."""
        ...


@dataclass(slots=True)
class HealthGate:
    """Waits for the services of one plan.

    Attributes:
        plan: What was deployed.
        send: Asks the host.
        directory: Asks the backend for its workers.
        observe: Is told what is waited for, and what services that are not well wrote last.
        clock: The time.
        warnings: What the operator should know in the end.
        found: What the last look has found, by section.
    """

    plan: Plan
    send: Send
    directory: WorkerDirectory
    observe: Observer
    clock: Clock
    warnings: list[str] = field(default_factory=list)
    found: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def wait(
        self, step: Step, before: Snapshot, first: Mapping[str, Sequence[str]] | None = None
    ) -> Snapshot:
        """Looks again and again; returns the containers once all is well.

        Args:
            step: The look.
            before: The containers before the deploy.
            first: What a first look has found, where there was one.

        Raises:
            DeploymentFailed: A service will not become well, or took too long.
            HostNotReady: The host cannot be asked.
        """
        restarts = {container.id: container.restarts for container in before.values()}
        began = self.clock.monotonic()
        found = first or self._ask(step)
        while True:
            self.found = found
            after, troubles = self._judge(found, restarts)
            if not troubles:
                return after
            late = self.clock.monotonic() - began >= self.plan.health_timeout_s
            if late or any(trouble.final for trouble in troubles):
                # Those that are merely not ready yet are not what went wrong.
                culprits = [trouble for trouble in troubles if trouble.final] or troubles
                self._show_logs(after, [trouble.service for trouble in culprits])
                raise faults.unhealthy(self.plan, troubles, self.plan.health_timeout_s)
            self.observe(events.Waiting(f"{troubles[0].service} {troubles[0].reason}"))
            self.clock.sleep(_LOOK_EVERY_S)
            found = self._ask(step)

    def show_logs_of_unwell(self, step: Step) -> None:
        """Shows what the services wrote last that do not run, or not well."""
        there = self._there(self._ask(step))
        unwell = (
            name
            for name, container in there.items()
            if not container.is_running or container.health == "unhealthy"
        )
        self._show_logs(there, unwell)

    def _judge(
        self, found: Mapping[str, Sequence[str]], restarts: Mapping[str, int]
    ) -> tuple[Snapshot, tuple[Trouble, ...]]:
        there = self._there(found)
        troubles = health.judge(
            self.plan.wanted,
            there,
            containers.read_answers(found),
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
            self.warn(
                f"the backend could not be asked for its workers from here ({error.message}); "
                "the workers themselves say that they are registered"
            )
            return ()
        return health.missing_from(known, self.plan.wanted, self.plan.release.tag)

    def _show_logs(self, there: Snapshot, services: Iterable[str]) -> None:
        names = {there[service].id: service for service in services if service in there}
        if not names:
            return
        script = Script("scripts/container_logs.sh", (str(_LOG_LINES + _MARGIN_LINES), *names))
        result = self.send(script, _LOGS_TIMEOUT_S, observed=False)
        for container_id, lines in sections.split(result.stdout).items():
            if container_id in names:
                shown = tuple(map(hide_assigned, lines[-_LOG_LINES:]))
                self.observe(events.LogTail(names[container_id], shown))

    def _ask(self, step: Step) -> dict[str, list[str]]:
        result = self.send(step.script, step.timeout_s)
        if result.exit_code:
            raise faults.looking_failed(self.plan, "containers", result)
        return sections.split(result.stdout)

    def _there(self, found: Mapping[str, Sequence[str]]) -> Snapshot:
        return containers.read_containers(found.get("containers", ()))

    def warn(self, message: str) -> None:
        """Tells the operator something the deploy can live with."""
        self.warnings.append(message)
        self.observe(events.Warned(message))
