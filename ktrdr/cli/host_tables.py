"""Status of a host as tables and as JSON, for `ktrdr status` and `ktrdr deploy status`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from ktrdr.cli.render import format_age, format_duration, write_table
from ktrdr.deployment.deploy.result import error_to_json
from ktrdr.deployment.hosts.history import DeployKind, HistoryEntry
from ktrdr.deployment.hosts.images import parse_image_name
from ktrdr.deployment.status import HostStatus

_DIGEST_LENGTH: Final = 12
_KB_PER_GB: Final = 1024 * 1024


def write_services(host: HostStatus) -> None:
    """Write a table with a row for each container of a host."""
    now = host.now or datetime.now(UTC)
    write_table(
        ("service", "state", "version", "digest", "uptime", ">restarts"),
        [
            (
                container.service,
                container.state,
                parse_image_name(container.image).version,
                host.image_digest(container).rpartition(":")[2][:_DIGEST_LENGTH],
                format_duration(now - container.started_at) if container.is_running else "",
                f"{container.restarts}",
            )
            for container in host.containers
        ],
        empty="Nothing is deployed here.",
    )


def describe_host(host: HostStatus) -> list[tuple[str, str]]:
    """Return names and values that describe a host besides its containers."""
    last = (
        _describe_deploy(host.last_deploy, host.now)
        if host.last_deploy
        else "no deploy is recorded here"
    )
    pairs = [("last deploy", last)]
    if host.lock_owner:
        pairs.append(("locked", f"by {host.lock_owner}"))
    for disk in host.disks:
        free, size = disk.free_kb / _KB_PER_GB, disk.size_kb / _KB_PER_GB
        pairs.append(("disk", f"{free:.1f} of {size:.1f} GiB free at {disk.directory}"))
    pairs += [("unhealthy", f"{problem.service} {problem.reason}") for problem in host.problems]
    pairs += [("drift", difference) for difference in host.drift]
    return pairs + host.next_steps


def services_to_json(host: HostStatus) -> list[dict[str, Any]]:
    """Return the containers of a host for JSON output."""
    return [
        {
            "service": container.service,
            "image": container.image,
            "digest": host.image_digest(container) or None,
            "status": container.status,
            "health": container.health,
            "started_at": container.started_at.isoformat(),
            "restarts": container.restarts,
            "container": container.id,
        }
        for container in host.containers
    ]


def host_to_json(host: HostStatus) -> dict[str, Any]:
    """Return the status of a host for JSON output."""
    owner = host.lock_owner
    return {
        "target": host.host.name,
        "host": host.host.address,
        "error": error_to_json(host.error) if host.error else None,
        "clock": host.now.isoformat() if host.now else None,
        "services": services_to_json(host),
        "unwell": [
            {"service": problem.service, "reason": problem.reason} for problem in host.problems
        ],
        "drift": list(host.drift),
        "lacks_secrets": host.lacks_secrets,
        "unfinished": [what for what, _ in host.unfinished],
        "next_steps": [{"state": state, "step": step} for state, step in host.next_steps],
        "lock": {
            "who": owner.deploy.who, "reason": owner.reason, "since": owner.deploy.at.isoformat(),
        } if owner else None,
        "last": host.last_deploy.to_json() if host.last_deploy else None,
        "disks": [
            {"directory": disk.directory, "size_kb": disk.size_kb, "free_kb": disk.free_kb}
            for disk in host.disks
        ],
    }  # fmt: skip


def _describe_deploy(entry: HistoryEntry, now: datetime | None) -> str:
    release = entry.tag if entry.service == "all" else f"{entry.service} {entry.tag}"
    outcome = f"{entry.outcome.value} {format_age(entry.deploy.at, now)}"
    kind = "" if entry.kind is DeployKind.DEPLOY else f"{entry.kind.value} "
    return f"{release} {outcome} by {entry.deploy.who} ({kind}{entry.id})"
