"""What runs on a host, as tables and as JSON: `ktrdr status` and `ktrdr deploy status`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from ktrdr.cli.render import ago, duration, write_table
from ktrdr.deployment.deploy.result import error_to_json
from ktrdr.deployment.hosts.containers import Container
from ktrdr.deployment.hosts.history import HistoryEntry
from ktrdr.deployment.status import Disk, HostStatus

_DIGEST: Final = 12
_KB_IN_GB: Final = 1024 * 1024


def write_services(host: HostStatus) -> None:
    """The containers of a host, a row each."""
    now = host.now or datetime.now(UTC)
    write_table(
        ("service", "state", "version", "digest", "up for", ">restarts"),
        [
            (
                each.service,
                each.state,
                version(each.image),
                short_digest(host.image_digest(each)),
                duration(now - each.started_at) if each.is_running else "",
                f"{each.restarts}",
            )
            for each in host.containers
        ],
        empty="Nothing is deployed here.",
    )


def host_pairs(host: HostStatus) -> list[tuple[str, str]]:
    """What is worth saying of a host besides its containers."""
    pairs = [
        (
            "last",
            _said(host.last_deploy, host.now) if host.last_deploy else "no deploy is recorded here",
        )
    ]
    if host.lock_owner:
        pairs.append(("locked", f"by {host.lock_owner}"))
    if host.lacks_secrets:
        pairs.append(("secrets", what_brings_secrets(host)))
    pairs += [("disk", _disk(disk)) for disk in host.disks]
    pairs += [("unwell", f"{problem.service} {problem.reason}") for problem in host.problems]
    pairs += [("drift", each) for each in host.drift]
    return pairs


def what_brings_secrets(host: HostStatus) -> str:
    """What to do where a host's memory has lost the secrets, in a sentence."""
    command = f"ktrdr deploy {host.host.name}{'' if host.host.node else ' all'}"
    return f"this host was restarted: run `{command}`"


def services_to_json(host: HostStatus) -> list[dict[str, Any]]:
    """The containers of a host."""
    return [_service(host, each) for each in host.containers]


def host_to_json(host: HostStatus) -> dict[str, Any]:
    """All that was seen of a host."""
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
        "lock": {
            "who": owner.deploy.who, "reason": owner.reason, "since": owner.deploy.at.isoformat(),
        } if owner else None,
        "last": host.last_deploy.to_json() if host.last_deploy else None,
        "disks": [
            {"directory": disk.directory, "size_kb": disk.size_kb, "free_kb": disk.free_kb}
            for disk in host.disks
        ],
    }  # fmt: skip


def version(image: str) -> str:
    """The tag of an image."""
    return image.partition("@")[0].rpartition(":")[2]


def short_digest(digest: str) -> str:
    """The beginning of a digest, without the name of its algorithm."""
    return digest.rpartition(":")[2][:_DIGEST]


def _service(host: HostStatus, each: Container) -> dict[str, Any]:
    return {
        "service": each.service,
        "image": each.image,
        "digest": host.image_digest(each) or None,
        "status": each.status,
        "health": each.health,
        "started_at": each.started_at.isoformat(),
        "restarts": each.restarts,
        "container": each.id,
    }


def _said(entry: HistoryEntry, now: datetime | None) -> str:
    what = entry.tag if entry.service == "all" else f"{entry.service} {entry.tag}"
    when = f"{entry.outcome.value} {ago(entry.deploy.at, now)}"
    return f"{what} {when} by {entry.deploy.who} ({entry.kind.value} {entry.id})"


def _disk(disk: Disk) -> str:
    free, size = disk.free_kb / _KB_IN_GB, disk.size_kb / _KB_IN_GB
    return f"{free:.1f} of {size:.1f} GiB free at {disk.directory}"
