"""Removal of images and files that no release on a host needs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ktrdr.deployment.hosts.history import HistoryEntry, parse_history
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.images import parse_image_name
from ktrdr.deployment.hosts.queries import query_docker
from ktrdr.deployment.scripts.script import Script, repeat
from ktrdr.deployment.services import ServiceManager
from ktrdr.deployment.ssh.interface import Transport

DEFAULT_KEPT_RELEASES: Final = 5
_QUERY_TIMEOUT_S: Final = 60.0
_ARCHIVE: Final = ".tar.gz"
_KEPT_FILE: Final = re.compile(r"([0-9]+) ([\w-]+\.tar\.gz(?:\.partial)?)")


@dataclass(frozen=True, slots=True)
class Image:
    """Image on a host.

    Attributes:
        id: Its id.
        tags: Its names with tags.
        digests: Its names with digests of registries.
        size: Its size (bytes); layers that several images share count for each.
    """

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size: int

    @property
    def repositories(self) -> set[str]:
        """Return its names without tag and digest."""
        return {parse_image_name(name).repository for name in (*self.tags, *self.digests)}

    @property
    def registry_digests(self) -> set[str]:
        """Return its digests in registries; in containerd's store, its id is one."""
        return {self.id, *(digest.partition("@")[2] for digest in self.digests)}

    @property
    def name(self) -> str:
        """Return a tag, or else the beginning of a digest or of the id."""
        if self.tags:
            return self.tags[0]
        repository, _, digest = (self.digests[0] if self.digests else f"@{self.id}").partition("@")
        return f"{repository or 'image'}@{digest.rpartition(':')[2][:12]}"


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """Images and files that no release needs.

    Attributes:
        images: Images of releases that are older than the kept ones.
        configurations: Archives of such releases' configurations, with their sizes (bytes).
        staged_kb: Size of files that an interrupted deploy left behind (KiB).
        kept_in_use: Ids of images that Docker refused to remove.
    """

    images: tuple[Image, ...] = ()
    configurations: tuple[tuple[str, int], ...] = ()
    staged_kb: int = 0
    kept_in_use: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to remove."""
        return not (self.images or self.configurations or self.staged_kb)

    @property
    def size(self) -> int:
        """Return the total size (bytes), which is the most that can be freed."""
        configurations = sum(size for _, size in self.configurations)
        return sum(image.size for image in self.images) + configurations + self.staged_kb * 1024

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form that ``--json`` prints."""
        return {
            "images": [
                {
                    "id": image.id,
                    "name": image.name,
                    "size_bytes": image.size,
                    "removed": image.id not in self.kept_in_use,
                }
                for image in self.images
            ],
            "configurations": [name for name, _ in self.configurations],
            "staged_kb": self.staged_kb,
            "at_most_bytes": self.size,
        }


def plan_prune(
    host: Host, transport: Transport, repositories: Iterable[str], keep: int
) -> PrunePlan:
    """Find what can be removed from a host; change nothing.

    Args:
        host: The host.
        transport: Connection to the host.
        repositories: Names of the product's images, without tags.
        keep: Number of releases that a rollback can still redeploy.

    Raises:
        HostNotReady: Docker there does not answer.
        HostUnreachable: The host cannot be reached.
    """
    script = Script("scripts/list_unused.sh", (host.workdir,))
    output = query_docker(host, script, transport, timeout_s=_QUERY_TIMEOUT_S)
    return make_prune_plan(output, repositories, keep)


def prune(manager: ServiceManager, repositories: Iterable[str], keep: int) -> PrunePlan:
    """Remove what no release needs; see `plan_prune` for the arguments.

    Raises:
        DeploymentFailed: A file cannot be removed.
        Locked: The lock was lost.
        HostNotReady: Docker there does not answer.
        HostUnreachable: The host cannot be reached.
    """
    host = manager.host
    plan = plan_prune(host, manager.transport, repositories, keep)
    if plan.is_empty:
        return plan
    images = (" ".join([image.id, *image.tags, *image.digests]) for image in plan.images)
    arguments = (
        *("--workdir", host.workdir),
        *("--note", manager.lock.owner.to_json()),
        *repeat("--file", (name for name, _ in plan.configurations)),
        *repeat("--image", images),
    )
    result = manager.run_locked(Script("scripts/prune.sh", arguments), "pruning")
    lines = [line.partition(" ") for line in result.stdout.splitlines()]
    return replace(plan, kept_in_use=tuple(image for word, _, image in lines if word == "stays"))


def make_prune_plan(
    output: Mapping[str, Sequence[str]], repositories: Iterable[str], keep: int
) -> PrunePlan:
    """Decide what can be removed, from the sections that ``list_unused.sh`` prints."""
    entries = parse_history(output.get("history", ()))
    needed = needed_releases(entries, keep)
    released = {image for entry in entries for image in entry.images}
    removable = {parse_image_name(name).repository for name in (*repositories, *released)}
    # In containerd's store, an image that lost its tag has no name.
    recorded = {digest for entry in entries for digest in entry.images.values()}
    used = set(output.get("used", ()))
    images = [
        image
        for image in _parse_images(output.get("images", ()))
        if image.id not in used and (image.repositories & removable or image.id in recorded)
        if not any(_has_run(entry, image) for entry in needed)
    ]
    archives = {f"{entry.configuration}{_ARCHIVE}" for entry in needed}
    files = [file for line in output.get("kept", ()) if (file := _KEPT_FILE.fullmatch(line))]
    staged = next((line for line in output.get("staged", ()) if line.isdecimal()), "0")
    return PrunePlan(
        images=tuple(sorted(images, key=lambda image: image.name)),
        configurations=tuple((file[2], int(file[1])) for file in files if file[2] not in archives),
        staged_kb=int(staged),
    )


def needed_releases(entries: Sequence[HistoryEntry], keep: int) -> list[HistoryEntry]:
    """Return the deploys of the last ``keep`` different good releases, and the last deploy.

    The last deploy is needed whatever its outcome: it may still run, or have been cut off.
    """
    needed = list(entries[-1:])
    different: list[HistoryEntry] = []
    for entry in reversed(entries):
        if not entry.outcome.is_good:
            continue
        if not any(entry.is_same_release(other) for other in different):
            if len(different) == keep:
                break
            different.append(entry)
        needed.append(entry)
    return needed


def _has_run(release: HistoryEntry, image: Image) -> bool:
    """Return whether a release ran an image, by the recorded digests and by the tags."""
    names = set(map(parse_image_name, image.tags))
    for name, digest in release.images.items():
        if digest in image.registry_digests or (not digest and parse_image_name(name) in names):
            return True
    return any(name.tag == release.tag for name in names)


def _parse_images(lines: Iterable[str]) -> list[Image]:
    images = []
    for line in lines:
        try:
            entry = json.loads(line)
            # In containerd's store, names with a digest are among the tags, too.
            tags = [tag for tag in entry.get("tags") or () if "@" not in tag]
            digests = entry.get("digests") or ()
            images.append(Image(entry["id"], tuple(tags), tuple(digests), int(entry["size"])))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return images
