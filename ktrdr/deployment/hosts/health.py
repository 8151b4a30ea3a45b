"""Decides from what a host reports whether a deployed stack is well, may yet be, or never will."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ktrdr.deployment.deploy.steps import Wanted
from ktrdr.deployment.hosts.containers import Container, Snapshot

if TYPE_CHECKING:
    from ktrdr.schemas import Worker

# A service without a health check is taken for well when it has run for so long.
SETTLED_AFTER_S: Final = 3.0
# So many restarts since the deploy began are no coincidence.
_CRASH_LOOP: Final = 3


@dataclass(frozen=True, slots=True)
class Trouble:
    """A service that is not well, and why.

    Attributes:
        service: Its name.
        reason: What it does instead: "is starting", "could not register: …".
        final: Whether waiting will not help.
    """

    service: str
    reason: str
    final: bool = False


def judge(
    wanted: Iterable[Wanted],
    now_there: Snapshot,
    answers: Mapping[str, Mapping[str, Any]],
    *,
    tag: str,
    restarts_before: Mapping[str, int],
    now: datetime,
) -> tuple[Trouble, ...]:
    """All services that are not well; none of them means that the deploy has succeeded.

    Args:
        wanted: The services that are to run.
        now_there: The containers as they are.
        answers: What our own programs say of themselves.
        tag: The image tag they have to say.
        restarts_before: By container id, the restarts that happened before the deploy.
        now: The time on the host, roughly.
    """
    found = []
    for service in wanted:
        container = now_there.get(service.name)
        trouble = _of_container(service.name, container, restarts_before, now)
        if trouble is None and service.says_version:
            trouble = _of_answer(service, answers.get(service.name), tag)
        if trouble:
            found.append(trouble)
    return tuple(found)


def missing_from(
    directory: Sequence[Worker], wanted: Iterable[Wanted], tag: str
) -> tuple[Trouble, ...]:
    """The workers that the backend does not know under this version.

    Args:
        directory: All workers that the backend knows.
        wanted: The services that are to run.
        tag: The image tag of this deploy.
    """
    # Loaded when there are workers to compare: it takes as long as to connect to a host.
    from ktrdr.schemas import WorkerStatus

    known = {
        worker.endpoint_url.rstrip("/")
        for worker in directory
        if worker.version == tag and worker.status is not WorkerStatus.TEMPORARILY_UNAVAILABLE
    }
    return tuple(
        Trouble(service.name, "is not among the backend's workers with this version yet")
        for service in wanted
        if service.worker_url and service.worker_url not in known
    )


def _of_container(
    name: str, container: Container | None, restarts_before: Mapping[str, int], now: datetime
) -> Trouble | None:
    if container is None:
        return Trouble(name, "has no container", final=True)
    restarts = container.restarts - restarts_before.get(container.id, 0)
    if restarts >= _CRASH_LOOP:
        # Between two attempts there is a last exit code; while it runs, Docker says 0.
        last = f" (last with exit code {code})" if (code := container.exit_code) else ""
        return Trouble(name, f"starts and ends again and again{last}", final=True)
    if container.status in ("exited", "dead"):
        return Trouble(name, f"has ended with exit code {container.exit_code}", final=True)
    if not container.is_running:
        return Trouble(name, f"is {container.status}")
    if container.health == "unhealthy":
        said = f": {container.complaint}" if container.complaint else ""
        return Trouble(name, f"runs but fails its health check{said}", final=True)
    if container.health == "starting":
        return Trouble(name, "is starting")
    if not container.health and (now - container.started_at).total_seconds() < SETTLED_AFTER_S:
        return Trouble(name, "has just started")
    return None


def _of_answer(service: Wanted, answer: Mapping[str, Any] | None, tag: str) -> Trouble | None:
    if answer is None:
        return Trouble(service.name, "does not answer yet")
    return _of_worker(service.name, answer, tag) if service.worker_url else _of_backend(answer, tag)


def _of_backend(answer: Mapping[str, Any], tag: str) -> Trouble | None:
    version = answer.get("version")
    running = version.get("image_tag") if isinstance(version, Mapping) else None
    if running != tag:
        return Trouble("backend", f"says that it is version {running}, not {tag}", final=True)
    if answer.get("status") != "ok":
        return Trouble("backend", f"says that the database is {answer.get('database')}")
    return None


def _of_worker(name: str, answer: Mapping[str, Any], tag: str) -> Trouble | None:
    if answer.get("version") != tag:
        return Trouble(
            name, f"says that it is version {answer.get('version')}, not {tag}", final=True
        )
    if answer.get("registered") is not True:
        why = answer.get("registration_error")
        return Trouble(name, f"could not register: {why}" if why else "has not registered yet")
    return None
