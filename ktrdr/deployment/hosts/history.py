"""What was deployed to a host, by whom, and what came of it.

A host keeps events, each a line of JSON: ``begun`` before anything is changed, ``ended`` when it is
over. One that begun and never ended was cut off: by a power cut, a lost connection, a SIGKILL.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

# Raised when a key disappears or changes its meaning; new keys may come at any time.
SCHEMA: Final = 1
# The directory, below the work directory, in which a host keeps its records.
RECORDS: Final = ".ktrdr"
# For a service: every one of the stack.
ALL: Final = "all"


class Kind(StrEnum):
    """What was done."""

    DEPLOY = "deploy"
    ROLLBACK = "rollback"
    # By the deploy itself, after its health gate failed.
    RESTORE = "automatic rollback"


class Outcome(StrEnum):
    """What came of it."""

    DEPLOYED = "deployed"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    # There is no event that says how it ended.
    CUT_OFF = "cut off"

    @property
    def is_good(self) -> bool:
        """Whether the release runs, or ran, in health."""
        return self in (Outcome.DEPLOYED, Outcome.UNCHANGED)


@dataclass(frozen=True, slots=True)
class Entry:
    """One deploy or rollback.

    Attributes:
        id: The release's id, unique and sorted by time.
        kind: What was done.
        service: The service it was about, or ``all``.
        tag: The image's tag.
        commit: The commit of the configuration, or None for that of a working tree.
        configuration: The hash of the configuration's files, by which it is kept.
        who: The person and their machine.
        began: When, by their clock.
        outcome: What came of it.
        duration_s: Seconds it took, or None where it was cut off.
        images: For each image by its name and tag: the digest that ran.
        containers: For each service of the host: the short id of its container, as a good end has
            left it; empty where that was not written down.
        profiles: The profiles that were chosen.
        settings: What Compose was told that is no secret, by name.
        reason: Why it failed, in one sentence; else empty.
        of: The release that a rollback went back from; else empty.
        contracts: The contracting migrations that the release's image knows; None where it is not
            known.
    """

    id: str
    kind: Kind
    service: str
    tag: str
    commit: str | None
    configuration: str
    who: str
    began: datetime
    outcome: Outcome = Outcome.CUT_OFF
    duration_s: float | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    containers: Mapping[str, str] = field(default_factory=dict)
    profiles: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    of: str = ""
    contracts: tuple[str, ...] | None = None

    def begun(self) -> str:
        """The event before anything is changed."""
        return _line(
            {
                "schema": SCHEMA,
                "event": "begun",
                "id": self.id,
                "kind": self.kind.value,
                "service": self.service,
                "tag": self.tag,
                "commit": self.commit,
                "configuration": self.configuration,
                "who": self.who,
                "at": self.began.astimezone(UTC).isoformat(timespec="milliseconds"),
                "profiles": list(self.profiles),
                "settings": dict(self.settings),
                "of": self.of,
            }
        )

    def ended(self) -> str:
        """The event at the end."""
        return _line(
            {
                "schema": SCHEMA,
                "event": "ended",
                "id": self.id,
                "outcome": self.outcome.value,
                "duration_s": round(self.duration_s or 0.0, 3),
                "images": dict(self.images),
                "containers": dict(self.containers),
                "reason": self.reason,
                "contracts": None if self.contracts is None else list(self.contracts),
            }
        )

    def to_json(self) -> dict[str, Any]:
        """The entry as ``--json`` prints it."""
        begun, ended = json.loads(self.begun()), json.loads(self.ended())
        merged = {**begun, **ended, "duration_s": self.duration_s}
        return {key: value for key, value in merged.items() if key not in ("event", "schema")}


def read(lines: Iterable[str]) -> tuple[Entry, ...]:
    """The entries, oldest first, from the lines of the file.

    Lines that cannot be read, such as one that a power cut has cut short, are left out.
    """
    found: dict[str, Entry] = {}
    for line in lines:
        event = _object(line)
        name = event.get("id")
        if not isinstance(name, str):
            continue
        try:
            if event.get("event") == "begun":
                found[name] = _begun(name, event)
            elif event.get("event") == "ended" and name in found:
                found[name] = _ended(found[name], event)
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return tuple(found.values())


def running(entries: Sequence[Entry], service: str) -> Entry | None:
    """The release that ran in health last, as far as it was about this service.

    Args:
        entries: The history.
        service: A service, or ``all``: then the last good release of whatever service.
    """
    return next((e for e in reversed(entries) if e.outcome.is_good and _about(e, service)), None)


def before(entries: Sequence[Entry]) -> Entry | None:
    """Where a rollback goes when nobody says: to the last good release that is not in place now.

    After a failure that is the last good one at all; else the one before, of another tag, other
    configuration or other settings.
    """
    if not entries:
        return None
    last = entries[-1]
    earlier = [entry for entry in entries if _about(entry, last.service)]
    if last.outcome.is_good:
        earlier = [entry for entry in earlier if not same(entry, last)]
    return running(earlier, last.service)


def same(one: Entry, other: Entry) -> bool:
    """Whether two entries put the same thing into place."""
    return (one.tag, one.configuration, one.settings, one.profiles) == (
        *(other.tag, other.configuration, other.settings, other.profiles),
    )


def _about(entry: Entry, service: str) -> bool:
    return ALL in (service, entry.service) or entry.service == service


def named(entries: Sequence[Entry], name: str) -> Entry | None:
    """The newest good entry with this id, or this tag."""
    for entry in reversed(entries):
        if entry.outcome.is_good and name in (entry.id, entry.tag):
            return entry
    return None


def moved(entries: Sequence[Entry], images: Mapping[str, str]) -> dict[str, Entry]:
    """The images whose tag meant another one in an earlier release, with the last such release.

    Args:
        entries: The history.
        images: The digests of now, by name and tag.
    """
    found = {}
    for reference, digest in images.items():
        for entry in reversed(entries):
            earlier = entry.images.get(reference)
            if earlier and entry.outcome.is_good:
                if digest and earlier != digest:
                    found[reference] = entry
                break
    return found


def _begun(name: str, event: Mapping[str, Any]) -> Entry:
    commit = event.get("commit")
    return Entry(
        id=name,
        kind=Kind(event["kind"]),
        service=str(event["service"]),
        tag=str(event["tag"]),
        commit=str(commit) if commit else None,
        configuration=str(event["configuration"]),
        who=str(event["who"]),
        began=datetime.fromisoformat(event["at"]),
        profiles=tuple(map(str, event.get("profiles", ()))),
        settings=_texts(event.get("settings") or {}),
        of=str(event.get("of") or ""),
    )


def _ended(entry: Entry, event: Mapping[str, Any]) -> Entry:
    contracts = event.get("contracts")
    return replace(
        entry,
        outcome=Outcome(event["outcome"]),
        duration_s=float(event["duration_s"]),
        images=_texts(event["images"]),
        containers=_texts(event.get("containers") or {}),
        reason=str(event.get("reason") or ""),
        contracts=None if contracts is None else tuple(map(str, contracts)),
    )


def _texts(found: Mapping[Any, Any]) -> dict[str, str]:
    return {str(name): str(text) for name, text in found.items()}


def _line(event: Mapping[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def _object(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
