"""Result of a deploy. Scripts depend on its JSON form: a test freezes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ktrdr.deployment.deploy.comparison import ServiceChange
from ktrdr.deployment.deploy.plan import Plan, split_plans
from ktrdr.deployment.hosts.containers import Container
from ktrdr.deployment.hosts.history import DeployOutcome, HistoryEntry
from ktrdr.deployment.scripts.script import render_for_display
from ktrdr.errors import HostSkipped, Interrupted, KtrdrError, NotStarted, RolledBack

# Increase it when a key disappears or changes its meaning; new keys may appear at any time.
SCHEMA: Final = 2


@dataclass(frozen=True, slots=True)
class ServiceState:
    """State of a service after the deploy.

    Attributes:
        change: Change that the deploy made.
        container: Its container; None if it was removed.
    """

    change: ServiceChange
    container: Container | None


@dataclass(frozen=True, slots=True)
class HostResult:
    """Result of the deploy to one host.

    Attributes:
        plan: Its plan.
        outcome: How it ended; None if it did not start.
        services: States of the services; empty after a failure.
        files: Configuration files that changed: ``+ FILE`` or ``- FILE``.
        warnings: Messages for the operator.
        duration_s: Duration from its first step to its last (s).
        error: Why it failed, or did not start.
        restored: Automatic rollback after a failure, with its outcome.
        is_left: Whether the host ends the deploy by itself.
    """

    plan: Plan
    outcome: DeployOutcome | None
    services: tuple[ServiceState, ...] = ()
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    duration_s: float = 0.0
    error: KtrdrError | None = None
    restored: HistoryEntry | None = None
    is_left: bool = False

    @property
    def is_good(self) -> bool:
        """Return whether the host runs the release."""
        return self.error is None

    @property
    def is_skipped(self) -> bool:
        """Return whether the deploy to the other hosts went on without this one."""
        return isinstance(self.error, HostSkipped)

    @property
    def changed(self) -> bool:
        """Return whether anything on the host changed."""
        return self.outcome in (DeployOutcome.DEPLOYED, DeployOutcome.DETACHED)

    def to_json(self) -> dict[str, Any]:
        """Return the host's part of the final JSON document."""
        not_begun = "skipped" if self.is_skipped else "not begun"
        return {
            **_describe_plan(self.plan),
            "ok": self.is_good,
            "outcome": self.outcome.value if self.outcome else not_begun,
            "changed": self.changed,
            "services": [_describe_service(state) for state in self.services],
            "changed_files": list(self.files),
            "warnings": list(self.warnings),
            "duration_s": round(self.duration_s, 3),
            "error": error_to_json(self.error) if self.error else None,
            "restored": self.restored.to_json() if self.restored else None,
            "left_to_host": self.is_left,
        }


@dataclass(frozen=True, slots=True)
class DeployResult:
    """Result of the deploy to all hosts.

    Attributes:
        id: The deploy's id.
        hosts: Result of each host, in the order in which they were named.
        duration_s: Duration from reading the secrets to the end (s).
        connections: Number of SSH connections.
        scripts: Number of scripts sent over them.
        batches: Names of the hosts that were deployed at the same time, in this order.
    """

    id: str
    hosts: tuple[HostResult, ...]
    duration_s: float
    connections: int
    scripts: int
    batches: tuple[tuple[str, ...], ...] = ()

    @property
    def is_good(self) -> bool:
        """Return whether every host runs the release."""
        return all(host.is_good for host in self.hosts)

    @property
    def changed(self) -> bool:
        """Return whether anything on any host changed."""
        return any(host.changed for host in self.hosts)

    @property
    def failed(self) -> tuple[HostResult, ...]:
        """Return the hosts with an error; those that did not start come last."""
        failed = [host for host in self.hosts if host.error is not None]
        last = (RolledBack, NotStarted, HostSkipped)
        return tuple(sorted(failed, key=lambda host: isinstance(host.error, last)))

    @property
    def skipped(self) -> tuple[str, ...]:
        """Return the names of the skipped hosts."""
        return tuple(host.plan.host.name for host in self.hosts if host.is_skipped)

    def to_json(self) -> dict[str, Any]:
        """Return the final JSON document."""
        return {
            "event": "result",
            "schema": SCHEMA,
            "ok": self.is_good,
            "id": self.id,
            "changed": self.changed,
            "skipped": list(self.skipped),
            "hosts": [host.to_json() for host in self.hosts],
            "duration_s": round(self.duration_s, 3),
            "ssh": {"connections": self.connections, "scripts": self.scripts},
            "batches": [self._describe_batch(names) for names in self.batches],
        }

    def _describe_batch(self, names: Sequence[str]) -> dict[str, Any]:
        hosts = [host for host in self.hosts if host.plan.host.name in names]
        is_started = any(host.outcome for host in hosts)
        ok = all(host.is_good for host in hosts) if is_started else None
        return {"hosts": list(names), "ok": ok}


def outcome_of(error: KtrdrError) -> DeployOutcome:
    """Return the outcome of a deploy that ended with an error."""
    return DeployOutcome.INTERRUPTED if isinstance(error, Interrupted) else DeployOutcome.FAILED


def failure_to_json(error: KtrdrError) -> dict[str, Any]:
    """Return the final JSON document of a deploy that did not start."""
    return {"event": "result", "schema": SCHEMA, "ok": False, "error": error_to_json(error)}


def error_to_json(error: KtrdrError) -> dict[str, Any]:
    """Return the JSON form of an error."""
    return {
        "kind": error.kind,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


def plans_to_json(plans: Sequence[Plan]) -> dict[str, Any]:
    """Return the JSON document of a dry run."""
    return {
        "event": "plan",
        "schema": SCHEMA,
        "ok": True,
        "dry_run": True,
        "hosts": [{**_describe_plan(plan), "steps": _describe_steps(plan)} for plan in plans],
        "batches": [[plan.host.name for plan in batch] for batch in split_plans(plans)],
    }


def _describe_steps(plan: Plan) -> list[dict[str, Any]]:
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


def _describe_plan(plan: Plan) -> dict[str, Any]:
    return {
        "target": plan.host.name,
        "host": plan.host.address,
        "kind": plan.entry.kind.value,
        "service": plan.service,
        "tag": plan.release.tag,
        "commit": plan.release.commit,
        "configuration": plan.release.source,
    }


def _describe_service(state: ServiceState) -> dict[str, Any]:
    container = state.container
    return {
        "name": state.change.service,
        "action": state.change.action.value,
        "image": container.image if container else None,
        "container": container.id if container else None,
        "status": container.status if container else None,
        "health": (container.health or None) if container else None,
    }
