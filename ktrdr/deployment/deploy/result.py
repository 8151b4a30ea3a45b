"""What a deploy has come to. Its JSON form is a contract with scripts: a test freezes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ktrdr.deployment.deploy.comparison import ServiceChange
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.hosts.containers import Container
from ktrdr.deployment.hosts.history import Entry, Outcome
from ktrdr.deployment.scripts.script import render_for_display
from ktrdr.errors import KtrdrError, NotStarted

# Raised when a key disappears or changes its meaning; new keys may come at any time.
SCHEMA: Final = 2


@dataclass(frozen=True, slots=True)
class ServiceState:
    """A service after the deploy.

    Attributes:
        change: What has become of it.
        container: Its container, or None where it was removed.
    """

    change: ServiceChange
    container: Container | None


@dataclass(frozen=True, slots=True)
class HostResult:
    """What has become of one host.

    Attributes:
        plan: What was to be done.
        outcome: What has come of it; None where it was not begun.
        services: The services and what has become of them; empty after a failure.
        files: The configuration files that changed: ``+ FILE`` or ``- FILE``.
        warnings: What the operator should know.
        duration_s: Seconds from its first step to its last.
        error: Why it failed, or was not begun.
        restored: What was put into place again after a failure, with what came of that.
    """

    plan: Plan
    outcome: Outcome | None
    services: tuple[ServiceState, ...] = ()
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    duration_s: float = 0.0
    error: KtrdrError | None = None
    restored: Entry | None = None

    @property
    def is_good(self) -> bool:
        """Whether the host runs what it was to run."""
        return self.error is None

    @property
    def changed(self) -> bool:
        """Whether anything on the host is different from before."""
        return self.outcome is Outcome.DEPLOYED

    def to_json(self) -> dict[str, Any]:
        """The host's part of the document that ``--json`` ends with."""
        return {
            **_head(self.plan),
            "ok": self.is_good,
            "outcome": self.outcome.value if self.outcome else "not begun",
            "changed": self.changed,
            "services": [_service(state) for state in self.services],
            "changed_files": list(self.files),
            "warnings": list(self.warnings),
            "duration_s": round(self.duration_s, 3),
            "error": error_to_json(self.error) if self.error else None,
            "restored": self.restored.to_json() if self.restored else None,
        }


@dataclass(frozen=True, slots=True)
class DeployResult:
    """What has become of all hosts.

    Attributes:
        id: The release's id.
        hosts: Each host, in the order in which they were named.
        duration_s: Seconds from the first look at the vault to the end.
        connections: How many SSH connections were opened.
        scripts: How many scripts were sent over them.
    """

    id: str
    hosts: tuple[HostResult, ...]
    duration_s: float
    connections: int
    scripts: int

    @property
    def is_good(self) -> bool:
        """Whether every host runs what it was to run."""
        return all(host.is_good for host in self.hosts)

    @property
    def changed(self) -> bool:
        """Whether anything on any host is different from before."""
        return any(host.changed for host in self.hosts)

    @property
    def failed(self) -> tuple[HostResult, ...]:
        """The hosts that do not run what they were to run, those that were left alone last."""
        failed = [host for host in self.hosts if host.error is not None]
        return tuple(sorted(failed, key=lambda host: isinstance(host.error, NotStarted)))

    def to_json(self) -> dict[str, Any]:
        """The document that ``--json`` ends with."""
        return {
            "event": "result",
            "schema": SCHEMA,
            "ok": self.is_good,
            "id": self.id,
            "changed": self.changed,
            "hosts": [host.to_json() for host in self.hosts],
            "duration_s": round(self.duration_s, 3),
            "ssh": {"connections": self.connections, "scripts": self.scripts},
        }


def failure_to_json(error: KtrdrError) -> dict[str, Any]:
    """The document that ``--json`` ends with where nothing was begun."""
    return {"event": "result", "schema": SCHEMA, "ok": False, "error": error_to_json(error)}


def error_to_json(error: KtrdrError) -> dict[str, Any]:
    """An error as all of our documents write it."""
    return {
        "kind": error.kind,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


def plans_to_json(plans: Sequence[Plan]) -> dict[str, Any]:
    """The document that ``--dry-run --json`` prints."""
    return {
        "event": "plan",
        "schema": SCHEMA,
        "ok": True,
        "dry_run": True,
        "hosts": [{**_head(plan), "steps": _steps(plan)} for plan in plans],
    }


def _steps(plan: Plan) -> list[dict[str, Any]]:
    return [
        {
            "kind": step.kind.value,
            "host": step.host,
            "title": step.title,
            "timeout_s": step.timeout_s,
            "secrets": list(step.script.secrets),
            "script": render_for_display(step.script, whole=True),
        }
        for step in plan.steps
    ]


def _head(plan: Plan) -> dict[str, Any]:
    return {
        "target": plan.site.name,
        "host": plan.site.host,
        "kind": plan.entry.kind.value,
        "service": plan.service,
        "tag": plan.release.tag,
        "commit": plan.release.commit,
        "configuration": plan.release.source,
    }


def _service(state: ServiceState) -> dict[str, Any]:
    container = state.container
    return {
        "name": state.change.service,
        "action": state.change.action.value,
        "image": container.image if container else None,
        "container": container.id if container else None,
        "status": container.status if container else None,
        "health": (container.health or None) if container else None,
    }
