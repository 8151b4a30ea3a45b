"""History of the deploys to a host.

A host keeps one JSON object per line: ``begun`` before anything changes, ``ended`` at the end. A
deploy that began and never ended was cut off, by a power cut, a lost connection or a SIGKILL.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from ktrdr.deployment.hosts.host import DeployId

# Increase it when a key disappears or changes its meaning; new keys may appear at any time.
SCHEMA: Final = 1
# Directory for the records of a host, below its work directory.
RECORDS: Final = ".ktrdr"
# Stands in place of a service's name for all services of the stack.
ALL: Final = "all"


class DeployKind(StrEnum):
    """Kind of a deploy."""

    DEPLOY = "deploy"
    ROLLBACK = "rollback"
    # Started by a deploy itself after it failed.
    AUTOMATIC_ROLLBACK = "automatic rollback"


class DeployOutcome(StrEnum):
    """Outcome of a deploy."""

    DEPLOYED = "deployed"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    # The host finishes it by itself, and records how.
    DETACHED = "detached"
    # No event says how it ended.
    CUT_OFF = "cut off"
    # End of an action that is no deploy.
    DONE = "done"

    @property
    def is_good(self) -> bool:
        """Return whether the release was healthy at the end."""
        return self in (DeployOutcome.DEPLOYED, DeployOutcome.UNCHANGED)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """Deploy or rollback on one host.

    Attributes:
        deploy: Its id, who started it, and when.
        kind: Kind of the deploy.
        service: Service that was deployed, or ``all``.
        tag: Tag of the image.
        commit: Commit of the configuration; None for that of a working tree.
        configuration: Hash of the configuration's files, which names the kept archive.
        outcome: How it ended.
        duration_s: Duration in seconds; None if it was cut off.
        images: Digest of each image, by name and tag.
        other_digests: More digests of the same images. Docker's classic store knows an image by
            those of all its tags, and not which tag has which.
        containers: Short id of each service's container after a good end; empty if not recorded.
        profiles: Compose profiles that were selected.
        settings: Variables for Compose that are not secret.
        reason: Cause of a failure in one sentence; empty otherwise.
        rolled_back_from: Id of the release that a rollback replaced; empty otherwise.
        contract_migrations: Contract migrations that the release's image knows; None if unknown.
        skipped: Names of hosts that were off, so that the deploy went on without them.
        scale: Workers of each type, if the command chose them.
        also: What it did besides, such as ``rotated jwt_secret``.
    """

    deploy: DeployId
    kind: DeployKind
    service: str
    tag: str
    commit: str | None
    configuration: str
    outcome: DeployOutcome = DeployOutcome.CUT_OFF
    duration_s: float | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    other_digests: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    containers: Mapping[str, str] = field(default_factory=dict)
    profiles: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    rolled_back_from: str = ""
    contract_migrations: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = ()
    scale: int | None = None
    also: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Return the deploy's id, which also names the release."""
        return self.deploy.id

    def begun_event(self) -> str:
        """Return the line that is recorded before anything changes."""
        return _to_line(
            {
                "schema": SCHEMA,
                "event": "begun",
                "id": self.id,
                "kind": self.kind.value,
                "service": self.service,
                "tag": self.tag,
                "commit": self.commit,
                "configuration": self.configuration,
                "who": self.deploy.who,
                "at": self.deploy.at.astimezone(UTC).isoformat(timespec="milliseconds"),
                "profiles": list(self.profiles),
                "settings": dict(self.settings),
                "of": self.rolled_back_from,
                **({} if self.scale is None else {"scale": self.scale}),
            }
        )

    def ended_event(self) -> str:
        """Return the line that is recorded at the end."""
        migrations = self.contract_migrations
        return _to_line(
            {
                "schema": SCHEMA,
                "event": "ended",
                "id": self.id,
                "outcome": self.outcome.value,
                "duration_s": round(self.duration_s or 0.0, 3),
                "images": dict(self.images),
                **({"other_digests": dict(self.other_digests)} if self.other_digests else {}),
                "containers": dict(self.containers),
                "reason": self.reason,
                "contracts": None if migrations is None else list(migrations),
                "skipped": list(self.skipped),
                **({"also": list(self.also)} if self.also else {}),
            }
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form that ``--json`` prints."""
        merged = {**json.loads(self.begun_event()), **json.loads(self.ended_event())}
        merged["duration_s"] = self.duration_s
        return {key: value for key, value in merged.items() if key not in ("event", "schema")}

    def includes(self, service: str) -> bool:
        """Return whether the deploy included a service; ``all`` includes each."""
        return ALL in (service, self.service) or self.service == service

    def digests_of(self, name: str) -> tuple[str, ...]:
        """Return the possible digests of an image, by name and tag; none if it was built here."""
        digest = self.images.get(name)
        return (digest, *self.other_digests.get(name, ())) if digest else ()

    def with_digests(self, digests: Mapping[str, Sequence[str]]) -> HistoryEntry:
        """Return the entry with the possible digests of its images, by name and tag."""
        return replace(
            self,
            images={name: next(iter(each), "") for name, each in digests.items()},
            other_digests={name: tuple(each[1:]) for name, each in digests.items() if each[1:]},
        )

    def had_other_image(self, name: str, digests: Collection[str]) -> bool:
        """Return whether an image had none of the digests; False if no digest is known."""
        own = self.digests_of(name)
        return bool(own and digests) and not set(own) & set(digests)

    def is_same_release(self, other: HistoryEntry) -> bool:
        """Return whether two deploys have the same image, configuration, settings and profiles."""
        own = (self.tag, self.configuration, self.settings, self.profiles)
        return own == (other.tag, other.configuration, other.settings, other.profiles)


def parse_history(lines: Iterable[str]) -> tuple[HistoryEntry, ...]:
    """Parse the lines of a history; return the entries, oldest first.

    Skip unreadable lines, such as one that a power cut has truncated.
    """
    entries: dict[str, HistoryEntry] = {}
    for line in lines:
        event = parse_object(line)
        deploy_id = event.get("id")
        if not isinstance(deploy_id, str):
            continue
        try:
            if event.get("event") == "begun":
                entries[deploy_id] = _parse_begun(deploy_id, event)
            elif event.get("event") == "ended" and deploy_id in entries:
                entries[deploy_id] = _parse_ended(entries[deploy_id], event)
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return tuple(entries.values())


def last_good(entries: Sequence[HistoryEntry], service: str) -> HistoryEntry | None:
    """Return the last good deploy of a service, or of any service for ``all``."""
    good = (entry for entry in reversed(entries) if entry.outcome.is_good)
    return next((entry for entry in good if entry.includes(service)), None)


def newest_release(entries: Iterable[HistoryEntry]) -> HistoryEntry | None:
    """Return the newest good deploy of a whole stack that was not the rollback of a failed one."""
    back = DeployKind.AUTOMATIC_ROLLBACK
    good = [each for each in entries if each.outcome.is_good and each.kind is not back]
    return max((each for each in good if each.service == ALL), key=lambda e: e.id, default=None)


def is_behind(
    entries: Sequence[HistoryEntry], tag: str, digests: Mapping[str, Collection[str]]
) -> bool:
    """Return whether the last deploy failed, or left another tag or other images.

    Args:
        entries: The history of a host.
        tag: The tag that it should have.
        digests: Possible digests of the images that it should have, by name and tag.
    """
    good = last_good(entries, ALL)
    if good is None or not entries[-1].outcome.is_good or good.tag != tag:
        return True
    return any(good.had_other_image(name, digests.get(name, ())) for name in good.images)


def previous_release(entries: Sequence[HistoryEntry]) -> HistoryEntry | None:
    """Return the default target of a rollback: the good release before the one deployed now.

    After a failed deploy, this is the last good release. A release that a rollback has left is no
    target, so that a second rollback does not return to it.
    """
    if not entries:
        return None
    current = entries[-1]
    good: list[HistoryEntry] = []
    for entry in entries:
        if not entry.outcome.is_good or not entry.includes(current.service):
            continue
        if entry.kind is not DeployKind.DEPLOY:
            same = [n for n, each in enumerate(good) if each.is_same_release(entry)]
            kept, left = (good[: same[-1]], good[same[-1] + 1 :]) if same else (good, [])
            good = [each for each in kept if not any(map(each.is_same_release, left))]
        if good and good[-1].is_same_release(entry):
            good.pop()
        good.append(entry)
    if current.outcome.is_good:
        good.pop()
    return good[-1] if good else None


def missing_way_back(
    entries: Sequence[HistoryEntry], service: str, kept: Collection[str] | None
) -> str:
    """Return why a failed deploy could not be rolled back, as a clause; empty if it could.

    Args:
        entries: The history of a host on which the service runs.
        service: Service to deploy, or ``all``.
        kept: Archives of configurations that the host keeps; None if they are unknown.
    """
    good = last_good(entries, service)
    if good is None:
        return "its history has no good release"
    if kept is not None and f"{good.configuration}.tar.gz" not in kept:
        return f"it does not keep the configuration of release {good.id} any more"
    return ""


def find_release(entries: Sequence[HistoryEntry], name: str) -> HistoryEntry | None:
    """Return the newest good deploy with this id or tag."""
    for entry in reversed(entries):
        if entry.outcome.is_good and name in (entry.id, entry.tag):
            return entry
    return None


def moved_tags(
    entries: Sequence[HistoryEntry], digests: Mapping[str, Collection[str]]
) -> dict[str, HistoryEntry]:
    """Return the images whose tag named another image in an earlier good deploy.

    Args:
        entries: The history.
        digests: Current digests of each image, by name and tag.

    Returns:
        The last such deploy of each image, by name and tag.
    """
    moved = {}
    for reference, current in digests.items():
        for entry in reversed(entries):
            if entry.images.get(reference) and entry.outcome.is_good:
                if entry.had_other_image(reference, current):
                    moved[reference] = entry
                break
    return moved


def _parse_begun(deploy_id: str, event: Mapping[str, Any]) -> HistoryEntry:
    commit = event.get("commit")
    return HistoryEntry(
        deploy=DeployId(deploy_id, str(event["who"]), datetime.fromisoformat(event["at"])),
        kind=DeployKind(event["kind"]),
        service=str(event["service"]),
        tag=str(event["tag"]),
        commit=str(commit) if commit else None,
        configuration=str(event["configuration"]),
        profiles=tuple(map(str, event.get("profiles", ()))),
        settings=_to_text_map(event.get("settings") or {}),
        rolled_back_from=str(event.get("of") or ""),
        scale=int(event["scale"]) if "scale" in event else None,
    )


def _parse_ended(entry: HistoryEntry, event: Mapping[str, Any]) -> HistoryEntry:
    migrations = event.get("contracts")
    return replace(
        entry,
        outcome=DeployOutcome(event["outcome"]),
        duration_s=float(event["duration_s"]),
        images=_to_text_map(event["images"]),
        other_digests={
            str(name): tuple(map(str, digests))
            for name, digests in (event.get("other_digests") or {}).items()
        },
        containers=_to_text_map(event.get("containers") or {}),
        reason=str(event.get("reason") or ""),
        contract_migrations=None if migrations is None else tuple(map(str, migrations)),
        skipped=tuple(map(str, event.get("skipped") or ())),
        also=tuple(map(str, event.get("also") or ())),
    )


def _to_text_map(values: Mapping[Any, Any]) -> dict[str, str]:
    return {str(name): str(text) for name, text in values.items()}


def _to_line(event: Mapping[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def parse_object(line: str) -> Mapping[str, Any]:
    """Parse a line of a history; return nothing if it is no event."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}
