"""Health documents of the backend and the workers, and the backend's list of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ktrdr.deployment.hosts.health import ExpectedService, HealthProblem

if TYPE_CHECKING:
    from ktrdr.schemas import Operation, Worker

_MAX_TEXT: Final = 500
# Kinds of errors that are the operation's own fault.
_OWN_FAULTS: Final = ("usage", "invalid-parameters", "not-found", "too-large")


def check_report(
    service: ExpectedService, report: Mapping[str, Any] | None, tag: str
) -> HealthProblem | None:
    """Return the problem that the health document of the backend or of a worker shows, if any.

    Args:
        service: The service.
        report: Its health document; None if it gave none.
        tag: Image tag that the document must name.
    """
    if report is None:
        return HealthProblem(service.name, "does not respond yet")
    check = _check_worker if service.worker_url else _check_backend
    problem, own = check(service.name, report, tag), report.get("problem")
    if not isinstance(own, Mapping) or (problem and problem.is_fatal):
        return problem
    message = str(own.get("message"))[:_MAX_TEXT]
    if problem and str(report.get("registration_error", "")).startswith(message):
        return problem
    return HealthProblem(service.name, f"is not ready: {message}")


def unregistered_workers(
    workers: Sequence[Worker], expected: Iterable[ExpectedService], tag: str
) -> tuple[HealthProblem, ...]:
    """Return a problem for each expected worker that the backend does not list with this tag.

    Args:
        workers: The workers that the backend lists.
        expected: The services that must run.
        tag: Image tag of the deploy.
    """
    # Imported only if there are workers to compare: it takes as long as connecting to a host.
    from ktrdr.schemas import WorkerStatus

    registered = {
        worker.endpoint_url.rstrip("/"): worker for worker in workers if worker.version == tag
    }
    problems = []
    for service in expected:
        worker = registered.get(service.worker_url or "")
        if service.worker_url and worker is None:
            reason = "is not registered at the backend with this version yet"
            problems.append(HealthProblem(service.name, reason))
        elif worker and worker.status is WorkerStatus.TEMPORARILY_UNAVAILABLE:
            reason = worker.problem or "the backend cannot reach it"
            problems.append(HealthProblem(service.name, f"is {worker.state}: {reason[:_MAX_TEXT]}"))
    return tuple(problems)


def failing_workers(
    workers: Sequence[Worker],
    expected: Iterable[ExpectedService],
    list_operations: Callable[[str], Sequence[Operation]],
    since: datetime,
) -> Iterator[HealthProblem]:
    """Yield a problem for each expected worker on which more than half of the operations failed.

    Args:
        workers: The workers that the backend lists.
        expected: The services that run.
        list_operations: Returns the newest operations of a worker, by its id.
        since: Operations that ended earlier do not count.
    """
    names = {service.worker_url: service.name for service in expected if service.worker_url}
    for worker in workers:
        name = names.get(worker.endpoint_url.rstrip("/"))
        operations = list_operations(worker.worker_id) if name else ()
        ended = [each for each in operations if each.finished_at and each.finished_at >= since]
        # Operations whose parameters are wrong fail with any release.
        errors = [each.error for each in ended if each.error and each.error.kind not in _OWN_FAULTS]
        if name and 2 * len(errors) > len(ended):
            count = f"failed {len(errors)} of {len(ended)} operations"
            reason = f"{count}, for example with: {errors[0].message[:_MAX_TEXT]}"
            yield HealthProblem(name, reason, is_fatal=True)


def _check_backend(name: str, report: Mapping[str, Any], tag: str) -> HealthProblem | None:
    version = report.get("version")
    running = version.get("image_tag") if isinstance(version, Mapping) else None
    if running != tag:
        return HealthProblem(name, f"reports version {running}, not {tag}", is_fatal=True)
    if report.get("status") != "ok":
        return HealthProblem(name, f"reports that the database is {report.get('database')}")
    return None


def _check_worker(name: str, report: Mapping[str, Any], tag: str) -> HealthProblem | None:
    if report.get("version") != tag:
        return HealthProblem(
            name, f"reports version {report.get('version')}, not {tag}", is_fatal=True
        )
    if report.get("registered") is not True:
        reason = report.get("registration_error")
        return HealthProblem(
            name, f"could not register: {reason}" if reason else "has not registered yet"
        )
    return None
