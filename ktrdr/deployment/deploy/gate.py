"""The health gate: waits until all services are healthy, or certainly will not be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy import events, step_errors
from ktrdr.deployment.deploy.events import Observer
from ktrdr.deployment.deploy.plan import Plan, Step
from ktrdr.deployment.deploy.script_runner import ScriptRunner
from ktrdr.deployment.hosts import containers
from ktrdr.deployment.hosts.containers import Snapshot
from ktrdr.deployment.hosts.health import HealthProblem, find_problems
from ktrdr.deployment.product import Backend
from ktrdr.deployment.scripts import sections
from ktrdr.deployment.scripts.script import Script
from ktrdr.errors import KtrdrError
from ktrdr.secret import redact_assignments

# Enough for the end of one attempt and the whole of the next, if a program crashes repeatedly.
_LOG_LINES: Final = 40
# Further lines that are fetched, but not shown. If the output began in the middle of a secret of
# several lines, the scrubber could not recognise it.
_MARGIN_LINES: Final = 100
_POLL_INTERVAL_S: Final = 0.5
_SOAK_INTERVAL_S: Final = 3.0
_LOGS_TIMEOUT_S: Final = 30.0

Sections = Mapping[str, Sequence[str]]


@dataclass(slots=True)
class HealthGate:
    """Health gate of one plan.

    Attributes:
        plan: The plan.
        runner: Runs scripts on the host.
        backend: Lists the registered workers.
        observe: Receives what the gate waits for, and the last log lines of unhealthy services.
        clock: The time.
        warnings: Messages for the operator that do not fail the deploy.
        sections: Output of the last query, by section.
    """

    plan: Plan
    runner: ScriptRunner
    backend: Backend
    observe: Observer
    clock: Clock
    warnings: list[str] = field(default_factory=list)
    sections: Sections = field(default_factory=dict)

    def wait(
        self, step: Step, before: Snapshot, first: Sections | None = None, *, soak_s: float = 0.0
    ) -> Snapshot:
        """Wait until all services are healthy; return their containers.

        Args:
            step: Step that queries the host.
            before: Containers before the deploy.
            first: Result of a first query, if there is one already.
            soak_s: Time for which services that were healthy must also not restart, nor fail most
                of their operations (s).

        Raises:
            DeploymentFailed: A service failed, or took too long.
            HostNotReady: The host cannot be queried.
        """
        restarts = {container.id: container.restarts for container in before.values()}
        timeout_s = self.plan.options.health_timeout
        began, since = self.clock.monotonic(), self.clock.now() if soak_s else None
        self.sections = first or self._query(step)
        while True:
            found = _parse_containers(self.sections)
            problems = self._find_problems(found, restarts, since)
            remaining_s = soak_s - (self.clock.monotonic() - began)
            if not problems and remaining_s <= 0:
                return found
            fatal = [problem for problem in problems if problem.is_fatal]
            if fatal or (problems and remaining_s + timeout_s <= 0):
                # Services that are only not ready yet are not the cause.
                self._show_logs(found, [problem.service for problem in fatal or problems])
                verb = "stay" if soak_s else "become"
                raise step_errors.unhealthy_error(self.plan, problems, timeout_s, verb)
            if problems:
                self.observe(events.Waiting(f"{problems[0].service} {problems[0].reason}"))
            self.clock.sleep(
                _SOAK_INTERVAL_S if remaining_s > _SOAK_INTERVAL_S else _POLL_INTERVAL_S
            )
            self.sections = self._query(step)

    def show_unhealthy_logs(self, step: Step) -> None:
        """Show the last log lines of services that do not run, or are unhealthy."""
        found = _parse_containers(self._query(step))
        unhealthy = (
            name
            for name, container in found.items()
            if not container.is_running or container.health == "unhealthy"
        )
        self._show_logs(found, unhealthy)

    def warn(self, message: str) -> None:
        """Show the operator a message that does not fail the deploy, and keep it for the result."""
        if message not in self.warnings:
            self.warnings.append(message)
            self.observe(events.Warned(message))

    def _find_problems(
        self, found: Snapshot, restarts: Mapping[str, int], since: datetime | None
    ) -> Sequence[HealthProblem]:
        problems = find_problems(
            self.plan.expected,
            found,
            containers.parse_reports(self.sections),
            check_report=self.plan.product.check_report,
            tag=self.plan.release.tag,
            restarts_before=restarts,
            may_restart=since is None,
            now=containers.parse_clock(self.sections.get("clock", ())) or self.clock.now(),
        )
        if problems:
            return problems
        try:
            return self.plan.product.unfit_workers(self.plan, self.backend, since)
        except KtrdrError as error:
            # All workers report that they are registered. The backend only confirms it, so the
            # deploy does not fail without it.
            self.warn(
                f"this machine could not ask the backend for its workers ({error.message}); "
                "the workers themselves report that they are registered"
            )
            return ()

    def _show_logs(self, found: Snapshot, services: Iterable[str]) -> None:
        names = {found[service].id: service for service in services if service in found}
        if not names:
            return
        script = Script("scripts/container_logs.sh", (str(_LOG_LINES + _MARGIN_LINES), *names))
        result = self.runner.query(script, _LOGS_TIMEOUT_S, observed=False)
        for container_id, lines in sections.split(result.stdout).items():
            if container_id in names:
                further = self.plan.host.further_secrets
                shown = tuple(redact_assignments(line, further) for line in lines[-_LOG_LINES:])
                self.observe(events.LogTail(names[container_id], shown))

    def _query(self, step: Step) -> Sections:
        result = self.runner.query(step.script, step.timeout_s)
        if result.exit_code:
            raise step_errors.query_error(self.plan, "containers", result)
        return sections.split(result.stdout)


def _parse_containers(found: Sections) -> Snapshot:
    return containers.parse_containers(found.get("containers", ()))
