"""The containers of a project as a host reports them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

_SERVICE: Final = "com.docker.compose.service"
_CONFIG_HASH: Final = "com.docker.compose.config-hash"
_NEEDS: Final = "com.docker.compose.depends_on"
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_IMAGE: Final = "com.docker.compose.image"


@dataclass(frozen=True, slots=True)
class Container:
    """One container.

    Attributes:
        service: The service it belongs to.
        id: Its full id; a recreated container has another.
        image: The image as the compose file named it.
        image_id: The id of that image when the container was made.
        config_hash: What Compose made of its configuration, secrets included.
        status: Docker's word: created, running, restarting, exited, dead, paused.
        health: Docker's word: starting, healthy, unhealthy; empty without a health check.
        started_at: When it was started last.
        exit_code: What it ended with last.
        restarts: How often Docker has restarted it of its own accord.
        complaint: What its health check said last.
        needs: The services that it depends on, as Compose noted them.
        created_at: When it was made.
        said: What it said of itself when its health was checked last, if it was well.
        start_error: Why Docker could not start it last, if it could not.
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
    complaint: str = field(default="")
    needs: tuple[str, ...] = ()
    created_at: datetime = _NEVER
    said: Mapping[str, Any] | None = None
    start_error: str = ""

    @property
    def short_id(self) -> str:
        """Its id as `docker ps` shows it."""
        return self.id[:12]

    @property
    def is_running(self) -> bool:
        """Whether its program runs."""
        return self.status == "running"

    @property
    def is_unstartable(self) -> bool:
        """Whether it never ran, or could not be started last: such a one is made anew."""
        return self.status == "created" or (self.status == "exited" and bool(self.start_error))

    @property
    def state(self) -> str:
        """Its health while it runs, if it has a health check; else what Docker calls its status."""
        return self.health if self.is_running and self.health else self.status


Snapshot = Mapping[str, Container]


def read_containers(lines: Iterable[str]) -> dict[str, Container]:
    """The containers by service, from the output of ``verify.sh``.

    Of several for one service, as an interrupted deploy leaves them, the one that runs counts.
    """
    found: dict[str, Container] = {}
    for entry in _objects(lines):
        container = _container(entry)
        known = found.get(container.service)
        if known is None or (container.is_running and not known.is_running):
            found[container.service] = container
    return found


def read_images(lines: Iterable[str]) -> dict[str, str]:
    """The ids of images by every reference that names them."""
    found = {}
    for entry in _objects(lines):
        for reference in [*(entry.get("tags") or ()), *(entry.get("digests") or ())]:
            found[reference] = entry["id"]
    return found


def read_digests(lines: Iterable[str]) -> dict[str, str]:
    """The digest of each image by its name and tag, where a registry gave it one."""
    found = {}
    for entry in _objects(lines):
        digests = dict(each.split("@", 1) for each in entry.get("digests") or () if "@" in each)
        for reference in entry.get("tags") or ():
            if digest := digests.get(reference.rpartition(":")[0]):
                found[reference] = digest
    return found


def contracts(sections: Mapping[str, Iterable[str]]) -> tuple[str, ...] | None:
    """The contracting migrations that our services of a look know; None where none says so."""
    answers = read_answers(sections).values()
    known = [answer["contracts"] for answer in answers if "contracts" in answer]
    return tuple(map(str, known[0])) if known and isinstance(known[0], list) else None


def short_ids(sections: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """The containers of a look, by service."""
    there = read_containers(sections.get("containers", ()))
    return {service: container.short_id for service, container in there.items()}


def read_answers(sections: Mapping[str, Iterable[str]]) -> dict[str, Mapping[str, Any]]:
    """What the services of a look say of themselves; those that say nothing readable are missing.

    Those that were not asked are taken at what they said when Docker checked their health last.
    """
    there = read_containers(sections.get("containers", ()))
    found = {name: container.said for name, container in there.items() if container.said}
    for line in sections.get("answers", ()):
        service, _, text = line.partition(" ")
        answer = _object(text)
        if answer is not None:
            found[service] = answer
    return found


def read_clock(lines: Iterable[str]) -> datetime | None:
    """The host's time, from the output of ``verify.sh``."""
    seconds = next((line for line in lines if line.isdigit()), None)
    return datetime.fromtimestamp(int(seconds), UTC) if seconds else None


def _container(entry: Mapping[str, Any]) -> Container:
    labels, state = entry.get("labels") or {}, entry["state"]
    health = state.get("Health") or {}
    log = health.get("Log") or []
    last = str(log[-1].get("Output", "")) if log else ""
    return Container(
        service=labels.get(_SERVICE, ""),
        id=entry["id"],
        image=entry.get("name", ""),
        image_id=labels.get(_IMAGE) or entry.get("image", ""),
        config_hash=labels.get(_CONFIG_HASH, ""),
        status=state["Status"],
        health="" if health.get("Status") == "none" else health.get("Status", ""),
        started_at=_time(state.get("StartedAt", "")),
        exit_code=int(state.get("ExitCode", 0)),
        restarts=int(entry.get("restarts") or 0),
        complaint=" ".join(last.split()),
        needs=_needs(labels.get(_NEEDS, "")),
        created_at=_time(entry.get("created") or ""),
        said=_object(last) if health.get("Status") == "healthy" else None,
        start_error=str(state.get("Error") or ""),
    )


def _needs(label: str) -> tuple[str, ...]:
    """The services in a label such as ``db:service_healthy:false,nfs:service_started:true``."""
    return tuple(each.partition(":")[0] for each in label.split(",") if each)


def _time(text: str) -> datetime:
    """A time as Docker writes it, with nanoseconds, which Python does not read."""
    found = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,6})?", text)
    if not found:
        return _NEVER
    return datetime.fromisoformat(found[1] + (found[2] or ".0").ljust(7, "0")).replace(tzinfo=UTC)


def _objects(lines: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    return (entry for line in lines if (entry := _object(line)) is not None)


def _object(text: str) -> Mapping[str, Any] | None:
    try:
        entry = json.loads(text)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
