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
    parse_reports,
)
from ktrdr.deployment.hosts.health import ExpectedService
from ktrdr.deployment.hosts.history import HistoryEntry, parse_history
from ktrdr.deployment.hosts.images import Image, parse_image_name, parse_images

CONFIGURATION_CHANGED: Final = "its configuration has changed"
TAG_MOVED: Final = "its tag now refers to a different image"
IMAGE_MISSING: Final = "its image is not on the host any more"
RECORDED_DIFFERENTLY: Final = "Compose records its image differently now"


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
        digests: Possible current digests of the release's images, by name.
        history: Deploys that the host remembers.
        sections: Output of the fetch step, by section.
        is_unfinished: Whether an earlier deploy was cut off while it changed something.
        compose_note: Containers that another version of Compose made; empty if there are none.
    """

    services: tuple[ServiceChange, ...]
    files: tuple[str, ...]
    before: Snapshot
    destructive_effects: tuple[str, ...]
    digests: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    history: tuple[HistoryEntry, ...] = ()
    sections: Mapping[str, Sequence[str]] = field(default_factory=dict)
    is_unfinished: bool = False
    compose_note: str = ""

    @property
    def is_empty(self) -> bool:
        """Return whether the host already matches the release."""
        return not (self.files or self.is_unfinished) and all(
            change.action is Action.UNCHANGED for change in self.services
        )

    def keeps(self, image: str, release: HistoryEntry) -> bool:
        """Return whether all containers of an image are unchanged since a release."""
        services = [name for name, each in self.before.items() if each.image == image]
        unchanged = {each.service for each in self.services if each.action is Action.UNCHANGED}
        return bool(services) and all(
            name in unchanged and release.containers.get(name) == self.before[name].short_id
            for name in services
        )


def compare(plan: Plan, sections: Mapping[str, Sequence[str]], compose: str = "") -> Comparison:
    """Compare a plan with the output of its fetch step.

    Args:
        plan: The plan.
        sections: The output.
        compose: Version of Compose on the host; empty if it is unknown.
    """
    before = parse_containers(sections.get("containers", ()))
    images = parse_images(sections.get("images", ()), before.values())
    pairs = (line.split() for line in sections.get("hashes", ()))
    hashes = {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
    reasons = dict(plan.config.unwanted)
    changes = [_compare_service(each, before, images, hashes, compose) for each in plan.expected]
    changes += [
        ServiceChange(name, Action.REMOVED, reasons.get(name, "beyond the scale"))
        for name in plan.surplus
        if name in before
    ]
    digests = {
        each.image: image.registry_digests(each.image)
        for each in plan.expected
        if (image := images.get(each.image))
    }
    history = parse_history(sections.get("history", ()))
    effects = plan.product.destructive_effects(
        changes,
        before,
        parse_reports(sections),
        volumes=sections.get("volumes"),
        history=history,
    )
    return Comparison(
        services=tuple(changes),
        files=tuple(sections.get("files", ())),
        before=before,
        destructive_effects=tuple(effects),
        digests=digests,
        compose_note=_compose_note(before, compose.lstrip("v")),
        history=history,
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


def _compare_service(
    service: ExpectedService,
    before: Snapshot,
    images: Mapping[str, Image],
    hashes: Mapping[str, str],
    compose: str,
) -> ServiceChange:
    """Return what Compose will do with a service: it compares ids and hashes that it recorded."""
    container, image = before.get(service.name), images.get(service.image)
    if container is None:
        return ServiceChange(service.name, Action.CREATED, "does not exist yet")
    if container.image != service.image:
        old, new = map(parse_image_name, (container.image, service.image))
        reason = f"{old.version} → {new.version}"
        if old.version == new.version:
            reason = f"{container.image} → {service.image}"
        return ServiceChange(service.name, Action.RECREATED, reason)
    if image is None:
        return ServiceChange(service.name, Action.RECREATED, IMAGE_MISSING)
    if container.image_id not in image.recorded_ids(compose):
        is_same = container.content_id == image.content_id
        reason = RECORDED_DIFFERENTLY if is_same else TAG_MOVED
        return ServiceChange(service.name, Action.RECREATED, reason)
    if container.config_hash != hashes.get(service.name):
        return ServiceChange(service.name, Action.RECREATED, CONFIGURATION_CHANGED)
    if container.is_unstartable:
        return ServiceChange(service.name, Action.RECREATED, "could not be started")
    if not container.is_running:
        return ServiceChange(service.name, Action.STARTED, f"is {container.status}")
    return ServiceChange(service.name, Action.UNCHANGED)


def _compose_note(before: Snapshot, compose: str) -> str:
    """Return a sentence about containers that another version of Compose made, if there are any."""
    others = {n: each.compose for n, each in before.items() if each.compose not in ("", compose)}
    if not compose or not others:
        return ""
    versions = " or ".join(sorted(set(others.values())))
    return (
        f"{', '.join(others)}: Compose was {versions} when these containers were made, and is "
        f"{compose} now, so it may recreate them although nothing else has changed"
    )


def _applied_action(before: Container | None, after: Container | None) -> Action:
    if after is None:
        return Action.REMOVED if before else Action.UNCHANGED
    if before is None:
        return Action.CREATED
    if before.id != after.id:
        return Action.RECREATED
    return Action.UNCHANGED if before.started_at == after.started_at else Action.STARTED
