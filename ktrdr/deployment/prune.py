"""Decides what nothing needs any more on a host, and removes it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.hosts import history
from ktrdr.deployment.hosts.history import Entry
from ktrdr.deployment.scripts import sections
from ktrdr.deployment.scripts.script import Script, render, repeat
from ktrdr.deployment.services import Attendant
from ktrdr.deployment.ssh.interface import Transport
from ktrdr.deployment.status.query import not_asked

DEFAULT_KEPT: Final = 5
_LOOK_TIMEOUT_S: Final = 60.0
_ARCHIVE: Final = ".tar.gz"
_KEPT: Final = re.compile(r"([0-9]+) ([\w-]+\.tar\.gz(?:\.partial)?)")


@dataclass(frozen=True, slots=True)
class Image:
    """An image on a host.

    Attributes:
        id: Its id.
        tags: Its names with their tags.
        digests: Its names with the digests that registries gave it.
        size: What it takes (bytes); layers that it shares with others are counted for each.
    """

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size: int

    @property
    def repositories(self) -> set[str]:
        """Its names without tag or digest."""
        by_tag = {tag.rpartition(":")[0] for tag in self.tags}
        return by_tag | {digest.partition("@")[0] for digest in self.digests}

    @property
    def name(self) -> str:
        """What to call it: by a tag, or else by the beginning of a digest or of its id."""
        if self.tags:
            return self.tags[0]
        repository, _, digest = (self.digests[0] if self.digests else f"@{self.id}").partition("@")
        return f"{repository or 'image'}@{digest.rpartition(':')[2][:12]}"


@dataclass(frozen=True, slots=True)
class Waste:
    """What nothing needs any more.

    Attributes:
        images: Images of releases that are further back than a rollback goes.
        configurations: The files of kept configurations of such releases, with their sizes (bytes).
        staged_kb: What an interrupted deploy has left staged (KiB).
        stayed: Images that Docker did not let go, by id.
    """

    images: tuple[Image, ...] = ()
    configurations: tuple[tuple[str, int], ...] = ()
    staged_kb: int = 0
    stayed: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to remove."""
        return not (self.images or self.configurations or self.staged_kb)

    @property
    def size(self) -> int:
        """What it takes at most (bytes)."""
        configurations = sum(size for _, size in self.configurations)
        return sum(image.size for image in self.images) + configurations + self.staged_kb * 1024

    def to_json(self) -> dict[str, Any]:
        """It as ``--json`` prints it."""
        return {
            "images": [
                {
                    "id": each.id,
                    "name": each.name,
                    "size_bytes": each.size,
                    "removed": each.id not in self.stayed,
                }
                for each in self.images
            ],
            "configurations": [name for name, _ in self.configurations],
            "staged_kb": self.staged_kb,
            "at_most_bytes": self.size,
        }


def look(place: Place, transport: Transport, ours: Iterable[str], keep: int) -> Waste:
    """What can go on a host; changes nothing.

    Args:
        place: The host.
        transport: The way to it.
        ours: The names of our images, without tags.
        keep: How many releases back a rollback has to be able to go.

    Raises:
        HostNotReady: Docker there cannot be asked.
        HostUnreachable: The host cannot be reached.
    """
    script = render(Script("scripts/list_unused.sh", (place.workdir,)), {})
    result = transport.run(place.host, script, timeout_s=_LOOK_TIMEOUT_S)
    if result.exit_code:
        raise not_asked(place, result)
    return waste(sections.split(result.stdout), ours, keep)


def remove(attendant: Attendant, ours: Iterable[str], keep: int) -> Waste:
    """Removes what can go; what comes back is what it was.

    Raises:
        DeploymentFailed: A file cannot be removed.
        Locked: The lock was lost.
        HostNotReady: Docker there cannot be asked.
        HostUnreachable: The host cannot be reached.
    """
    place = attendant.place
    found = look(place, attendant.transport, ours, keep)
    if found.is_empty:
        return found
    images = [" ".join([image.id, *image.tags, *image.digests]) for image in found.images]
    arguments = (
        *("--workdir", place.workdir),
        *("--note", attendant.lock.owner.note()),
        *repeat("--file", (name for name, _ in found.configurations)),
        *repeat("--image", images),
    )
    result = attendant.change(Script("scripts/prune.sh", arguments), "removing")
    stayed = [
        line.split(" ", 1)[1] for line in result.stdout.splitlines() if line.startswith("stays ")
    ]
    return Waste(found.images, found.configurations, found.staged_kb, tuple(stayed))


def waste(said: Mapping[str, Sequence[str]], ours: Iterable[str], keep: int) -> Waste:
    """What can go, from the output of ``list_unused.sh``."""
    entries = history.read(said.get("history", ()))
    needed = needed_releases(entries, keep)
    names = {image for entry in entries for image in entry.images}
    repositories = {*ours, *(name.rpartition(":")[0] for name in names)}
    used = set(said.get("used", ()))
    images = [
        image
        for image in _images(said.get("images", ()))
        if image.id not in used and image.repositories & repositories and not _is_of(image, needed)
    ]
    kept = {f"{entry.configuration}{_ARCHIVE}" for entry in needed}
    files = [file for line in said.get("kept", ()) if (file := _KEPT.fullmatch(line))]
    staged = next((line for line in said.get("staged", ()) if line.isdecimal()), "0")
    return Waste(
        images=tuple(sorted(images, key=lambda image: image.name)),
        configurations=tuple((file[2], int(file[1])) for file in files if file[2] not in kept),
        staged_kb=int(staged),
    )


def needed_releases(entries: Sequence[Entry], keep: int) -> list[Entry]:
    """What a rollback may go to, the last so many different good ones, and what came last of all.

    The last may be not over yet, or have been cut off: then it is in place, good or not.
    """
    needed = list(entries[-1:])
    different: list[Entry] = []
    for entry in (each for each in reversed(entries) if each.outcome.is_good):
        if not any(history.same(entry, other) for other in different):
            if len(different) == keep:
                break
            different.append(entry)
        needed.append(entry)
    return needed


def _is_of(image: Image, releases: Sequence[Entry]) -> bool:
    """Whether a release ran it: by its digest, or by its tag where no digest is recorded."""
    digests = {digest.partition("@")[2] for digest in image.digests}
    for entry in releases:
        for name, digest in entry.images.items():
            if digest in digests or (not digest and name in image.tags):
                return True
        if any(tag.rpartition(":")[2] == entry.tag for tag in image.tags):
            return True
    return False


def _images(lines: Iterable[str]) -> list[Image]:
    found = []
    for line in lines:
        try:
            entry = json.loads(line)
            tags, digests = entry.get("tags") or (), entry.get("digests") or ()
            found.append(Image(entry["id"], tuple(tags), tuple(digests), int(entry["size"])))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return found
