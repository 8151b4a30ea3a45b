"""What a deploy will change on a host, and what it has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.deploy.steps import Wanted
from ktrdr.deployment.hosts.containers import (
    Container,
    Snapshot,
    read_answers,
    read_containers,
    read_digests,
    read_images,
)
from ktrdr.deployment.hosts.history import Entry, read

CONFIGURATION_CHANGED: Final = "its configuration has changed"


class Action(StrEnum):
    """What becomes of a service."""

    UNCHANGED = "unchanged"
    CREATED = "created"
    RECREATED = "recreated"
    STARTED = "started"
    REMOVED = "removed"

    @property
    def intention(self) -> str:
        """The word for it before it has happened."""
        return "unchanged" if self is Action.UNCHANGED else f"to be {self.value}"


@dataclass(frozen=True, slots=True)
class ServiceChange:
    """What becomes of one service, and why.

    Attributes:
        service: Its name.
        action: What becomes of it.
        reason: Why, in a few words; empty where nothing happens.
    """

    service: str
    action: Action
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A release against what is on the host.

    Attributes:
        services: What becomes of each service.
        files: The configuration files that change: ``+ FILE`` or ``- FILE``.
        before: The containers that are there.
        losses: What could be lost, each in one sentence; the operator is asked.
        digests: What the images' names mean now, by name; without those that no registry gave.
        history: What the host remembers.
        found: All that the fetch step has found out, by section.
        unfinished: Whether a deploy before this one stopped in the middle of changing something.
    """

    services: tuple[ServiceChange, ...]
    files: tuple[str, ...]
    before: Snapshot
    losses: tuple[str, ...]
    digests: Mapping[str, str] = field(default_factory=dict)
    history: tuple[Entry, ...] = ()
    found: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unfinished: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether the host is already as it is to be."""
        return not (self.files or self.unfinished) and all(
            change.action is Action.UNCHANGED for change in self.services
        )


def compare(plan: Plan, sections: Mapping[str, Sequence[str]]) -> Comparison:
    """Reads what the fetch step found out."""
    before = read_containers(sections.get("containers", ()))
    images = read_images(sections.get("images", ()))
    pairs = (line.split() for line in sections.get("hashes", ()))
    hashes = {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
    changes = [_change(service, before, images, hashes) for service in plan.wanted]
    surplus = [name for name in plan.surplus if name in before]
    changes += [ServiceChange(name, Action.REMOVED, "beyond the scale") for name in surplus]
    ours = {service.image for service in plan.wanted}
    digests = read_digests(sections.get("images", ())).items()
    return Comparison(
        services=tuple(changes),
        files=tuple(sections.get("files", ())),
        before=before,
        losses=tuple(_losses(changes, before, read_answers(sections))),
        digests={image: digest for image, digest in digests if image in ours},
        history=read(sections.get("history", ())),
        found=sections,
        unfinished=bool(sections.get("unfinished")),
    )


def happened(before: Snapshot, after: Snapshot, wanted: Sequence[str]) -> tuple[ServiceChange, ...]:
    """What has really become of the services, by their containers before and after.

    Args:
        before: The containers before anything was done.
        after: Those at the end.
        wanted: The services to list in any case; others are listed if something became of them.
    """
    names = [*wanted, *(name for name in {**before, **after} if name not in wanted)]
    changes = [_became(name, before.get(name), after.get(name)) for name in names]
    return tuple(
        change
        for change in changes
        if change.service in wanted or change.action is not Action.UNCHANGED
    )


def _change(
    service: Wanted, before: Snapshot, images: Mapping[str, str], hashes: Mapping[str, str]
) -> ServiceChange:
    container = before.get(service.name)
    if container is None:
        return ServiceChange(service.name, Action.CREATED, "is not there yet")
    if container.image != service.image:
        reason = f"{_tag(container.image)} → {_tag(service.image)}"
        return ServiceChange(service.name, Action.RECREATED, reason)
    if container.image_id != images.get(service.image):
        return ServiceChange(service.name, Action.RECREATED, "its tag has another image now")
    if container.config_hash != hashes.get(service.name):
        return ServiceChange(service.name, Action.RECREATED, CONFIGURATION_CHANGED)
    if container.is_unstartable:
        return ServiceChange(service.name, Action.RECREATED, "could not be started")
    if not container.is_running:
        return ServiceChange(service.name, Action.STARTED, f"is {container.status}")
    return ServiceChange(service.name, Action.UNCHANGED)


def _became(name: str, before: Container | None, after: Container | None) -> ServiceChange:
    if after is None:
        return ServiceChange(name, Action.REMOVED if before else Action.UNCHANGED)
    if before is None:
        return ServiceChange(name, Action.CREATED)
    if before.id != after.id:
        return ServiceChange(name, Action.RECREATED)
    if before.started_at != after.started_at:
        return ServiceChange(name, Action.STARTED)
    return ServiceChange(name, Action.UNCHANGED)


def _losses(
    changes: Sequence[ServiceChange], before: Snapshot, answers: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    found = []
    for change in changes:
        if change.service == "db" and change.action is Action.RECREATED and before["db"].is_running:
            found.append(
                f"the database is restarted ({change.reason}), which interrupts all that uses it"
            )
        operation = answers.get(change.service, {}).get("current_operation_id")
        if change.action is Action.REMOVED and operation:
            found.append(f"{change.service} is stopped while it works on {operation}")
    return found


def _tag(image: str) -> str:
    return image.partition("@")[0].rpartition(":")[2]
