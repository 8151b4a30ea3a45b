"""What on a host is not as its last release left it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Final

from ktrdr.deployment.hosts.containers import Container
from ktrdr.deployment.hosts.history import ALL, Entry, running

# Between the operator's clock, by which releases are dated, and the host's; preflight allows half.
# Matters only where a release has not written down which containers it left.
_CLOCKS_APART: Final = timedelta(seconds=60)
_FILES: Final = {"~": "differs from", "-": "is gone, and was in", "+": "is new since"}
_NAMED: Final = 5


def of(
    entries: Sequence[Entry],
    containers: Sequence[Container],
    digests: Mapping[str, str],
    files: Iterable[str],
) -> tuple[str, ...]:
    """All that has changed since, each in a few words; nothing where nothing was recorded.

    Args:
        entries: The host's history, oldest first.
        containers: What is there.
        digests: The digests of the images that run, by the images' ids.
        files: ``~``, ``-`` or ``+`` and a file, for each that is not as the release has it.
    """
    found = []
    for container in containers:
        release = running(entries, container.service)
        if release is not None:
            found += _of_container(container, release, digests, entries[-1])
    found += _missing(entries, containers)
    return (*found, *_of_files(files))


def _of_container(
    container: Container, release: Entry, digests: Mapping[str, str], last: Entry
) -> list[str]:
    name, image, digest = container.service, container.image, digests.get(container.image_id, "")
    released = release.images
    if released and image not in released:
        return [f"{name} runs {_short(image)}, which is not in release {release.id}"]
    if digest and released.get(image) and released[image] != digest:
        return [f"{name} runs another image by the name {_short(image)} than release {release.id}"]
    if _is_of(container, last):
        return []
    return [f"{name} was made anew by hand, after release {last.id}"]


def _is_of(container: Container, last: Entry) -> bool:
    """Whether the last release left the container there, or may have."""
    if last.containers:
        return last.containers.get(container.service) == container.short_id
    if last.duration_s is None:
        # Whatever was cut off may have made it.
        return True
    return container.created_at <= last.began + timedelta(seconds=last.duration_s) + _CLOCKS_APART


def _missing(entries: Sequence[Entry], containers: Sequence[Container]) -> list[str]:
    """Images of the last release of everything that nothing runs any more."""
    release = running([each for each in entries if each.service == ALL], ALL)
    if release is None:
        return []
    there = {_repository(each.image) for each in containers}
    return [
        f"nothing runs {_short(image)}, which is in release {release.id}"
        for image in release.images
        if _repository(image) not in there
    ]


def _of_files(lines: Iterable[str]) -> list[str]:
    pairs = [line.partition(" ") for line in lines]
    found = [f"{file} {_FILES[sign]} the release" for sign, _, file in pairs if sign in _FILES]
    if len(found) <= _NAMED:
        return found
    return [*found[:_NAMED], f"{len(found) - _NAMED} more files differ"]


def _repository(image: str) -> str:
    return image.partition("@")[0].rpartition(":")[0]


def _short(image: str) -> str:
    return image.partition("@")[0].rpartition("/")[2]
