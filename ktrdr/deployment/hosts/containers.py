"""Containers and images of a project, parsed from what a host reports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

_SERVICE: Final = "com.docker.compose.service"
_CONFIG_HASH: Final = "com.docker.compose.config-hash"
_DEPENDS_ON: Final = "com.docker.compose.depends_on"
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_IMAGE: Final = "com.docker.compose.image"
_COMPOSE: Final = "com.docker.compose.version"
_WORKDIR: Final = "com.docker.compose.project.working_dir"


@dataclass(frozen=True, slots=True)
class Container:
    """Container of a service.

    Attributes:
        service: Service that it belongs to.
        id: Full id; a recreated container has another.
        image: Image as the compose file names it.
        image_id: Id of that image that Compose recorded when it created the container.
        config_hash: Compose's hash of its configuration, secrets included.
        status: Docker's status: created, running, restarting, exited, dead, paused.
        health: Docker's health: starting, healthy, unhealthy; empty without a health check.
        started_at: Time of the last start.
        exit_code: Last exit code.
        restarts: Number of restarts by Docker itself.
        health_output: Output of the last health check, without a health document before it.
        depends_on: Services that it depends on, as Compose recorded them.
        created_at: Time of its creation.
        health_report: Health document that the last health check printed.
        is_unfit: Whether that document says that the service cannot do its work.
        start_error: Error of Docker's last attempt to start it; empty if there was none.
        store_image_id: Id of that image in Docker's store.
        manifest: Digest of the platform's manifest that it runs, in containerd's store.
        compose: Version of Compose that created it.
        workdir: Work directory that it was created from.
    """

    service: str
    id: str
    image: str
    image_id: str
    config_hash: str
    status: str
    health: str
    started_at: datetime
    exit_code: int
    restarts: int
    health_output: str = field(default="")
    depends_on: tuple[str, ...] = ()
    created_at: datetime = _NEVER
    health_report: Mapping[str, Any] | None = None
    is_unfit: bool = False
    start_error: str = ""
    store_image_id: str = ""
    manifest: str = ""
    compose: str = ""
    workdir: str = ""

    @property
    def content_id(self) -> str:
        """Return the id of what it runs, as `Image.content_id` does."""
        return self.manifest or self.store_image_id

    @property
    def short_id(self) -> str:
        """Return the id as `docker ps` shows it."""
        return self.id[:12]

    @property
    def is_running(self) -> bool:
        return self.status == "running"

    @property
    def is_unstartable(self) -> bool:
        """Return whether it never ran or its last start failed; a deploy then recreates it."""
        return self.status == "created" or (self.status == "exited" and bool(self.start_error))

    @property
    def state(self) -> str:
        """Return its health while it runs, if it has a health check; otherwise its status."""
        return self.health if self.is_running and self.health else self.status


Snapshot = Mapping[str, Container]


def parse_containers(lines: Iterable[str]) -> dict[str, Container]:
    """Parse the listed containers; return them by service.

    An interrupted deploy can leave several for one service. The running one counts.
    """
    found: dict[str, Container] = {}
    for entry in _parse_objects(lines):
        container = _parse_container(entry)
        other = found.get(container.service)
        if other is None or (container.is_running and not other.is_running):
            found[container.service] = container
    return found


def known_contract_migrations(sections: Mapping[str, Iterable[str]]) -> tuple[str, ...] | None:
    """Return the contract migrations that our services report; None if no service does."""
    answers = parse_reports(sections).values()
    known = [answer["contracts"] for answer in answers if "contracts" in answer]
    return tuple(map(str, known[0])) if known and isinstance(known[0], list) else None


def short_ids(sections: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Return the short ids of the listed containers, by service."""
    listed = parse_containers(sections.get("containers", ()))
    return {service: container.short_id for service, container in listed.items()}


def parse_reports(sections: Mapping[str, Iterable[str]]) -> dict[str, Mapping[str, Any]]:
    """Parse the health reports of services; unreadable reports are left out.

    Use the report of Docker's last health check for a service that the script did not ask.
    """
    listed = parse_containers(sections.get("containers", ()))
    found = {
        name: container.health_report
        for name, container in listed.items()
        if container.health_report
    }
    for line in sections.get("answers", ()):
        service, _, text = line.partition(" ")
        answer = _parse_object(text)
        if answer is not None:
            found[service] = answer
    return found


def parse_clock(lines: Iterable[str]) -> datetime | None:
    """Parse the host's time."""
    seconds = next((line for line in lines if line.isdigit()), None)
    return datetime.fromtimestamp(int(seconds), UTC) if seconds else None


def _parse_container(entry: Mapping[str, Any]) -> Container:
    labels, state = entry.get("labels") or {}, entry["state"]
    health = state.get("Health") or {}
    log = health.get("Log") or []
    last = str(log[-1].get("Output", "")) if log else ""
    report, output = _split_document(last)
    return Container(
        service=labels.get(_SERVICE, ""),
        id=entry["id"],
        image=entry.get("name", ""),
        image_id=labels.get(_IMAGE) or entry.get("image", ""),
        config_hash=labels.get(_CONFIG_HASH, ""),
        status=state["Status"],
        health="" if health.get("Status") == "none" else health.get("Status", ""),
        started_at=_parse_time(state.get("StartedAt", "")),
        exit_code=int(state.get("ExitCode", 0)),
        restarts=int(entry.get("restarts") or 0),
        health_output=" ".join(output.split()),
        depends_on=_parse_depends_on(labels.get(_DEPENDS_ON, "")),
        created_at=_parse_time(entry.get("created") or ""),
        health_report=report,
        is_unfit=report is not None and bool(log[-1].get("ExitCode")),
        start_error=str(state.get("Error") or ""),
        store_image_id=entry.get("image", ""),
        manifest=(entry.get("manifest") or {}).get("digest", ""),
        compose=labels.get(_COMPOSE, ""),
        workdir=labels.get(_WORKDIR, ""),
    )


def _split_document(output: str) -> tuple[Mapping[str, Any] | None, str]:
    """Return the health document at the beginning of an output, if there is one, and the rest."""
    try:
        document, end = json.JSONDecoder().raw_decode(output)
    except ValueError:
        return None, output
    return (document, output[end:]) if isinstance(document, dict) else (None, output)


def _parse_depends_on(label: str) -> tuple[str, ...]:
    """Parse a label such as ``db:service_healthy:false,nfs:service_started:true``."""
    return tuple(each.partition(":")[0] for each in label.split(",") if each)


def _parse_time(text: str) -> datetime:
    """Parse a time as Docker writes it, with nanoseconds, which Python does not read."""
    found = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,6})?", text)
    if not found:
        return _NEVER
    return datetime.fromisoformat(found[1] + (found[2] or ".0").ljust(7, "0")).replace(tzinfo=UTC)


def _parse_objects(lines: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    return (entry for line in lines if (entry := _parse_object(line)) is not None)


def _parse_object(text: str) -> Mapping[str, Any] | None:
    try:
        entry = json.loads(text)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
