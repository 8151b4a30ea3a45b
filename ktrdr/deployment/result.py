"""What a deploy has come to. Its JSON form is a contract with scripts: a test freezes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ktrdr.deployment.commands.script import render_for_display
from ktrdr.deployment.compare import Action, ServiceChange
from ktrdr.deployment.containers import Container
from ktrdr.deployment.plan import Plan
from ktrdr.errors import KtrdrError

# Raised when a key disappears or changes its meaning; new keys may come at any time.
SCHEMA: Final = 1


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
class DeployResult:
    """A deploy that has succeeded.

    Attributes:
        plan: What was to be done.
        services: The services and what has become of them.
        files: The configuration files that changed: ``+ FILE`` or ``- FILE``.
        warnings: What the operator should know.
        duration_s: Seconds from the first look at the vault to the end.
        connections: How many SSH connections were opened.
        scripts: How many scripts were sent over them.
    """

    plan: Plan
    services: tuple[ServiceState, ...]
    files: tuple[str, ...]
    warnings: tuple[str, ...]
    duration_s: float
    connections: int
    scripts: int

    @property
    def changed(self) -> bool:
        """Whether anything on the host is different from before."""
        return bool(self.files) or any(
            state.change.action is not Action.UNCHANGED for state in self.services
        )

    def to_json(self) -> dict[str, Any]:
        """The document that ``--json`` prints."""
        return {
            **_head(self.plan, ok=True),
            "changed": self.changed,
            "services": [_service(state) for state in self.services],
            "changed_files": list(self.files),
            "warnings": list(self.warnings),
            "duration_s": round(self.duration_s, 3),
            "ssh": {"connections": self.connections, "scripts": self.scripts},
        }


def failure_to_json(plan: Plan | None, error: KtrdrError) -> dict[str, Any]:
    """The document that ``--json`` prints for a deploy that failed.

    Args:
        plan: What was to be done, as far as that was decided.
        error: Why it was not.
    """
    head = _head(plan, ok=False) if plan else {"schema": SCHEMA, "ok": False}
    return {
        **head,
        "error": {
            "kind": error.kind,
            "message": error.message,
            "hint": error.hint,
            "exit_code": error.exit_code,
        },
    }


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """The document that ``--dry-run --json`` prints."""
    return {
        **_head(plan, ok=True),
        "dry_run": True,
        "steps": [
            {
                "kind": step.kind.value,
                "host": step.host,
                "title": step.title,
                "timeout_s": step.timeout_s,
                "secrets": list(step.script.secrets),
                "script": render_for_display(step.script, whole=True),
            }
            for step in plan.steps
        ],
    }


def _head(plan: Plan, *, ok: bool) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "ok": ok,
        "target": plan.site.name,
        "host": plan.site.host,
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
