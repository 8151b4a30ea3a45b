"""Actions in the history of a host: changes that are no deploys, such as a stop or a drain.

An action is a line with the event ``action``, which older releases ignore. It is recorded twice: as
cut off before it begins, and with its outcome. The last line counts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from ktrdr.deployment.hosts.history import SCHEMA, DeployOutcome, parse_object
from ktrdr.deployment.hosts.host import DeployId, Host
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.interface import Transport
from ktrdr.errors import Interrupted, KtrdrError

DRAIN: Final = "drain"
_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class HistoryAction:
    """Change of a host that is no deploy.

    Attributes:
        deploy: Its id, who started it, and when. A drain has the id of its deploy.
        kind: Its kind, such as ``stop``.
        subject: What it changed, such as names of services; empty for the whole host.
        outcome: How it ended.
        duration_s: Duration in seconds; None if it was cut off.
        reason: Cause of a failure in one sentence, or the owner of a released lock.
    """

    deploy: DeployId
    kind: str
    subject: str = ""
    outcome: DeployOutcome = DeployOutcome.CUT_OFF
    duration_s: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}".rstrip()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form that ``--json`` prints."""
        return {
            "id": self.deploy.id,
            "kind": self.kind,
            "subject": self.subject,
            "who": self.deploy.who,
            "at": self.deploy.at.astimezone(UTC).isoformat(timespec="milliseconds"),
            "outcome": self.outcome.value,
            "duration_s": self.duration_s,
            "reason": self.reason,
        }

    def event(self) -> str:
        """Return the line that records it."""
        event = {"schema": SCHEMA, "event": "action", **self.to_json()}
        return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def parse_actions(lines: Iterable[str]) -> tuple[HistoryAction, ...]:
    """Parse the actions in the lines of a history, oldest first; skip unreadable lines."""
    actions: dict[tuple[str, str], HistoryAction] = {}
    for event in map(parse_object, lines):
        if event.get("event") == "action":
            with suppress(KeyError, TypeError, ValueError):
                who, at = str(event["who"]), datetime.fromisoformat(event["at"])
                action = HistoryAction(
                    DeployId(str(event["id"]), who, at),
                    str(event["kind"]),
                    str(event["subject"]),
                    DeployOutcome(event["outcome"]),
                    None if event["duration_s"] is None else float(event["duration_s"]),
                    str(event["reason"]),
                )
                actions[action.deploy.id, action.kind] = action
    return tuple(actions.values())


@contextmanager
def recorded(transport: Transport, host: Host, action: HistoryAction) -> Iterator[None]:
    """Record an action before the block, and its outcome after it.

    A full disk does not prevent the action, which may free space on it.

    Raises:
        HostUnreachable: The host cannot be reached.
    """
    began, reason, outcome = time.monotonic(), "", DeployOutcome.DONE
    _record(transport, host, action)
    try:
        yield
    except KtrdrError as error:
        reason, outcome = error.message, DeployOutcome.FAILED
        if isinstance(error, Interrupted):
            outcome = DeployOutcome.INTERRUPTED
        raise
    finally:
        took_s = round(time.monotonic() - began, 3)
        with suppress(KtrdrError):
            ended = replace(action, outcome=outcome, duration_s=took_s, reason=reason)
            _record(transport, host, ended)


def _record(transport: Transport, host: Host, action: HistoryAction) -> None:
    script = Script("scripts/record.sh", ("--workdir", host.workdir, "--event", action.event()))
    transport.run(host.address, render(script, {}), timeout_s=_TIMEOUT_S)
