"""Health of a stack, decided from what its host reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ktrdr.deployment.hosts.containers import Container, Snapshot

# A service without a health check counts as healthy after it has run for this time.
SETTLED_AFTER_S: Final = 3.0
# This many restarts since the deploy began are a crash loop.
_CRASH_LOOP: Final = 3


@dataclass(frozen=True, slots=True)
class ExpectedService:
    """Service that a host is expected to run.

    Attributes:
        name: Its name.
        image: Its image with tag.
        reports_version: Whether it is one of our own programs, which report their version.
        worker_url: URL that it registers at the backend, if it is a worker.
    """

    name: str
    image: str
    reports_version: bool
    worker_url: str | None


@dataclass(frozen=True, slots=True)
class HealthProblem:
    """Reason why a service is not healthy.

    Attributes:
        service: Name of the service.
        reason: Predicate that follows the name: "is starting", "could not register: …".
        is_fatal: Whether waiting cannot help.
    """

    service: str
    reason: str
    is_fatal: bool = False


# Returns the problem that a health report of one of our services shows. A report may be missing.
ReportCheck = Callable[[ExpectedService, Mapping[str, Any] | None, str], HealthProblem | None]


def find_problems(
    expected: Iterable[ExpectedService],
    containers: Snapshot,
    reports: Mapping[str, Mapping[str, Any]],
    *,
    check_report: ReportCheck,
    tag: str,
    restarts_before: Mapping[str, int],
    now: datetime,
    may_restart: bool = True,
) -> tuple[HealthProblem, ...]:
    """Return a problem for each service that is not healthy.

    Args:
        expected: Services that must run.
        containers: The current containers.
        reports: Health reports of our own services.
        check_report: Returns the problem that such a report shows.
        tag: Image tag that the reports must name.
        restarts_before: Restarts that happened before the deploy, by container id.
        now: Approximate time on the host.
        may_restart: Whether a few restarts are tolerated.
    """
    problems = []
    for service in expected:
        container = containers.get(service.name)
        problem = _check_container(service.name, container, restarts_before, now, may_restart)
        # A service that says why it is not ready yet is waited for. Its answer may be more recent
        # than Docker's last health check.
        is_waiting = container and container.is_unfit and problem and not problem.is_fatal
        if service.reports_version and container and (problem is None or is_waiting):
            said = check_report(service, reports.get(service.name), tag)
            problem = said or (None if container.health == "healthy" else problem)
        if problem:
            problems.append(problem)
    return tuple(problems)


def _check_container(
    name: str,
    container: Container | None,
    restarts_before: Mapping[str, int],
    now: datetime,
    may_restart: bool,
) -> HealthProblem | None:
    if container is None:
        return HealthProblem(name, "has no container", is_fatal=True)
    restarts = container.restarts - restarts_before.get(container.id, 0)
    if restarts and not may_restart:
        return HealthProblem(name, "restarted", is_fatal=True)
    if restarts >= _CRASH_LOOP:
        # While the container runs, Docker reports 0 instead of its last exit code.
        last = f" (last exit code {code})" if (code := container.exit_code) else ""
        return HealthProblem(name, f"keeps restarting{last}", is_fatal=True)
    if container.status in ("exited", "dead"):
        return HealthProblem(name, f"exited with code {container.exit_code}", is_fatal=True)
    if not container.is_running:
        return HealthProblem(name, f"is {container.status}")
    if container.is_unfit:
        return HealthProblem(name, f"is not ready: {container.health_output}")
    if container.health == "unhealthy":
        output = f": {container.health_output}" if container.health_output else ""
        return HealthProblem(name, f"fails its health check{output}", is_fatal=True)
    if container.health == "starting":
        return HealthProblem(name, "is starting")
    if not container.health and (now - container.started_at).total_seconds() < SETTLED_AFTER_S:
        return HealthProblem(name, "has just started")
    return None
