"""Events of a running deploy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from ktrdr.deployment.deploy.comparison import Comparison
from ktrdr.deployment.hosts.history import HistoryEntry
from ktrdr.deployment.ssh.interface import Stream


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step starts.

    Attributes:
        title: Its title.
        host: Address of the host; empty for this machine.
    """

    title: str
    host: str = ""


@dataclass(frozen=True, slots=True)
class StepFinished:
    """The current step succeeded.

    Attributes:
        title: Its title.
        duration_s: Its duration (s).
        detail: Its result in a few words.
    """

    title: str
    duration_s: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StepFailed:
    """The current step failed; the error follows as an exception."""

    title: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class StepSkipped:
    """A step is skipped."""

    title: str
    reason: str


@dataclass(frozen=True, slots=True)
class Output:
    """Line of output of a host, scrubbed of secrets."""

    stream: Stream
    line: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """The deploy waits for something."""

    reason: str


@dataclass(frozen=True, slots=True)
class Compared:
    """The comparison of release and host is complete."""

    comparison: Comparison


@dataclass(frozen=True, slots=True)
class LogTail:
    """Last log lines of an unhealthy service, scrubbed of secrets."""

    service: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Warned:
    """Message for the operator that does not fail the deploy."""

    message: str


@dataclass(frozen=True, slots=True)
class HookOutput:
    """Line of output of a hook, scrubbed of secrets."""

    hook: str
    line: str


@dataclass(frozen=True, slots=True)
class RollbackStarted:
    """The release failed, and an automatic rollback starts.

    Attributes:
        entry: Release that is redeployed.
        reason: Cause of the failure in one sentence.
    """

    entry: HistoryEntry
    reason: str


@dataclass(frozen=True, slots=True)
class BatchStarted:
    """A batch of hosts starts; the first one has the number 1."""

    number: int
    total: int
    hosts: tuple[str, ...]


Event = (
    StepStarted
    | StepFinished
    | StepFailed
    | StepSkipped
    | Output
    | Waiting
    | Compared
    | LogTail
    | Warned
    | HookOutput
    | RollbackStarted
    | BatchStarted
)
Observer = Callable[[Event], None]


# Names of the events in JSON.
NAMES: Final[Mapping[type, str]] = {
    StepStarted: "step_started",
    StepFinished: "step_finished",
    StepFailed: "step_failed",
    StepSkipped: "step_skipped",
    Output: "output",
    Waiting: "waiting",
    Compared: "compared",
    LogTail: "log",
    Warned: "warning",
    HookOutput: "hook",
    RollbackStarted: "restoring",
    BatchStarted: "batch_started",
}


def to_json(event: Event) -> dict[str, Any]:
    """Return the JSON form of an event, without host and time."""
    if isinstance(event, Compared):
        values = _comparison_to_json(event.comparison)
    elif isinstance(event, RollbackStarted):
        values = {"release": event.entry.id, "tag": event.entry.tag, "reason": event.reason}
    else:
        values = {key: value for key, value in asdict(event).items() if key != "host"}
    return {"event": NAMES[type(event)], **values}


def _comparison_to_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "services": [
            {"name": change.service, "action": change.action.value, "reason": change.reason}
            for change in comparison.services
        ],
        "changed_files": list(comparison.files),
    }
