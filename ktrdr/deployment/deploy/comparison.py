"""Comparison of a release with what a host runs, before and after a deploy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.hosts.containers import (
    Container,
    Snapshot,
    parse_containers,
    parse_digests,
    parse_image_ids,
    parse_reports,
)
from ktrdr.deployment.hosts.health import ExpectedService
from ktrdr.deployment.hosts.history import HistoryEntry, parse_history

CONFIGURATION_CHANGED: Final = "its configuration has changed"
TAG_MOVED: Final = "its tag now refers to a different image"


class Action(StrEnum):
    """Action of a deploy on a service."""

    UNCHANGED = "unchanged"
    CREATED = "created"
    RECREATED = "recreated"
    STARTED = "started"
    REMOVED = "removed"

    @property
    def planned_label(self) -> str:
        """Return the label of the action before it is carried out."""
        return "unchanged" if self is Action.UNCHANGED else f"to be {self.value}"


@dataclass(frozen=True, slots=True)
class ServiceChange:
    """Change of one service.

    Attributes:
        service: Name of the service.
        action: Action on it.
        reason: Cause in a few words; empty if it is unchanged.
    """

    service: str
    action: Action
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Differences between a release and a host.

    Attributes:
        services: Change of each service.
        files: Configuration files that change: ``+ FILE`` or ``- FILE``.
        before: Containers that exist.
        destructive_effects: Interruptions and losses, one sentence each, to be confirmed.
        digests: Current digests of the release's images, by name and tag.
        history: Deploys that the host remembers.
        sections: Output of the fetch step, by section.
        is_unfinished: Whether an earlier deploy was cut off while it changed something.
    """

    services: tuple[ServiceChange, ...]
    files: tuple[str, ...]
    before: Snapshot
    destructive_effects: tuple[str, ...]
    digests: Mapping[str, str] = field(default_factory=dict)
    history: tuple[HistoryEntry, ...] = ()
    sections: Mapping[str, Sequence[str]] = field(default_factory=dict)
    is_unfinished: bool = False

    @property
    def is_empty(self) -> bool:
        """Return whether the host already matches the release."""
        return not (self.files or self.is_unfinished) and all(
            change.action is Action.UNCHANGED for change in self.services
        )


def compare(plan: Plan, sections: Mapping[str, Sequence[str]]) -> Comparison:
    """Compare a plan with the output of its fetch step."""
    before = parse_containers(sections.get("containers", ()))
    image_ids = parse_image_ids(sections.get("images", ()))
    pairs = (line.split() for line in sections.get("hashes", ()))
    hashes = {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
    reasons = dict(plan.config.unwanted)
    changes = [_compare_service(each, before, image_ids, hashes) for each in plan.expected]
    changes += [
        ServiceChange(name, Action.REMOVED, reasons.get(name, "beyond the scale"))
        for name in plan.surplus
        if name in before
    ]
    images = {service.image for service in plan.expected}
    digests = parse_digests(sections.get("images", ())).items()
    effects = plan.product.destructive_effects(changes, before, parse_reports(sections))
    return Comparison(
        services=tuple(changes),
        files=tuple(sections.get("files", ())),
        before=before,
        destructive_effects=tuple(effects),
        digests={image: digest for image, digest in digests if image in images},
        history=parse_history(sections.get("history", ())),
        sections=sections,
        is_unfinished=bool(sections.get("unfinished")),
    )


def applied_changes(
    before: Snapshot, after: Snapshot, expected: Sequence[str]
) -> tuple[ServiceChange, ...]:
    """Return the changes of services, judged by their containers before and after.

    Args:
        before: Containers before the deploy.
        after: Containers at its end.
        expected: Services to list even if unchanged; others are listed if they changed.
    """
    names = [*expected, *(name for name in {**before, **after} if name not in expected)]
    changes = [
        ServiceChange(name, _applied_action(before.get(name), after.get(name))) for name in names
    ]
    return tuple(
        change
        for change in changes
        if change.service in expected or change.action is not Action.UNCHANGED
    )


def image_tag(image: str) -> str:
    """Return the tag of an image reference, without its digest."""
    return image.partition("@")[0].rpartition(":")[2]


def _compare_service(
    service: ExpectedService,
    before: Snapshot,
    image_ids: Mapping[str, str],
    hashes: Mapping[str, str],
) -> ServiceChange:
    container = before.get(service.name)
    if container is None:
        return ServiceChange(service.name, Action.CREATED, "does not exist yet")
    if container.image != service.image:
        reason = f"{image_tag(container.image)} → {image_tag(service.image)}"
        return ServiceChange(service.name, Action.RECREATED, reason)
    if container.image_id != image_ids.get(service.image):
        return ServiceChange(service.name, Action.RECREATED, TAG_MOVED)
    if container.config_hash != hashes.get(service.name):
        return ServiceChange(service.name, Action.RECREATED, CONFIGURATION_CHANGED)
    if container.is_unstartable:
        return ServiceChange(service.name, Action.RECREATED, "could not be started")
    if not container.is_running:
        return ServiceChange(service.name, Action.STARTED, f"is {container.status}")
    return ServiceChange(service.name, Action.UNCHANGED)


def _applied_action(before: Container | None, after: Container | None) -> Action:
    if after is None:
        return Action.REMOVED if before else Action.UNCHANGED
    if before is None:
        return Action.CREATED
    if before.id != after.id:
        return Action.RECREATED
    return Action.UNCHANGED if before.started_at == after.started_at else Action.STARTED
