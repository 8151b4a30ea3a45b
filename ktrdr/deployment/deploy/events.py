"""What a running deploy tells whoever watches it; the CLI renders it, tests collect it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from ktrdr.deployment.deploy.comparison import Comparison
from ktrdr.deployment.hosts.history import Entry
from ktrdr.deployment.ssh.interface import Stream


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step begins.

    Attributes:
        title: What it does.
        host: Where, or empty for this machine.
    """

    title: str
    host: str = ""


@dataclass(frozen=True, slots=True)
class StepFinished:
    """The step that began last has ended well.

    Attributes:
        title: What it did.
        duration_s: How long it took.
        detail: What came of it, in a few words.
    """

    title: str
    duration_s: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StepFailed:
    """The step that began last has failed; the error follows as an exception."""

    title: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class StepSkipped:
    """A step is left out."""

    title: str
    reason: str


@dataclass(frozen=True, slots=True)
class Output:
    """A line that a host wrote, scrubbed of secrets."""

    stream: Stream
    line: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the deploy waits for at the moment."""

    reason: str


@dataclass(frozen=True, slots=True)
class Compared:
    """What is going to change is known now."""

    comparison: Comparison


@dataclass(frozen=True, slots=True)
class LogTail:
    """The last lines of a service that is not well, scrubbed of secrets."""

    service: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Warned:
    """Something the operator should know, and the deploy can live with."""

    message: str


@dataclass(frozen=True, slots=True)
class HookSaid:
    """A line that one of the operator's own programs wrote, scrubbed of secrets."""

    hook: str
    line: str


@dataclass(frozen=True, slots=True)
class Restoring:
    """The release did not become healthy, and an earlier one is put into place again.

    Attributes:
        entry: Which.
        reason: What went wrong, in one sentence.
    """

    entry: Entry
    reason: str


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
    | HookSaid
    | Restoring
)
Observer = Callable[[Event], None]


# What ``--json`` calls each kind.
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
    HookSaid: "hook",
    Restoring: "restoring",
}


def to_json(event: Event) -> dict[str, Any]:
    """The event as ``--json`` prints it, without host and time."""
    if isinstance(event, Compared):
        values = _comparison(event.comparison)
    elif isinstance(event, Restoring):
        values = {"release": event.entry.id, "tag": event.entry.tag, "reason": event.reason}
    else:
        values = {key: value for key, value in asdict(event).items() if key != "host"}
    return {"event": NAMES[type(event)], **values}


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "services": [
            {"name": change.service, "action": change.action.value, "reason": change.reason}
            for change in comparison.services
        ],
        "changed_files": list(comparison.files),
    }
