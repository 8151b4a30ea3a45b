"""Finds what deploys have left on a host and nothing needs any more, and removes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ktrdr.deployment.scripts import history
from ktrdr.deployment.scripts import release as files
from ktrdr.deployment.scripts.lock import RECORDS
from ktrdr.deployment.scripts.script import quote, words
from ktrdr.deployment.scripts.sections import section

_IMAGE: Final = (
    '{"id":{{json .Id}},"tags":{{json .RepoTags}},"digests":{{json .RepoDigests}},'
    '"size":{{json .Size}}}'
)


def look(workdir: str) -> str:
    """Prints, in sections, what is there and what it takes.

    - ``history``: the events;
    - ``images``: a JSON object for each image of the host;
    - ``used``: the ids of those that a container was made from, of whatever project;
    - ``kept``: ``BYTES NAME`` for each file of kept configurations;
    - ``staged``: the size (KiB) of what an interrupted deploy has left staged.
    """
    inspect = words("docker", "image", "inspect", "--format", _IMAGE)
    used = words("docker", "inspect", "--format", "{{.Image}}")
    kept, staged = quote(_kept(workdir)), quote(files.staging(workdir))
    # An image or a container may vanish between two commands.
    parts = {
        "history": history.read(workdir),
        "images": "images=$(docker image ls --quiet --no-trunc)\n"
        f'[ -z "$images" ] || {inspect} $(printf "%s\\n" $images | sort -u) 2>/dev/null || :',
        "used": "containers=$(docker ps --all --quiet)\n"
        f'[ -z "$containers" ] || {used} $containers 2>/dev/null || :',
        "kept": f"[ ! -d {kept} ] || find {kept} -maxdepth 1 -type f -printf '%s %f\\n'",
        "staged": f"[ ! -d {staged} ] || du -sk {staged} | cut -f 1",
    }
    return "\n".join(line for title, body in parts.items() for line in (section(title), body))


def remove(workdir: str, images: Iterable[tuple[str, tuple[str, ...]]], kept: Iterable[str]) -> str:
    """Removes images, files of kept configurations, and what is staged.

    Prints ``stays IMAGE`` for an image that Docker does not let go.

    Args:
        workdir: The work directory.
        images: The id and the names of each image.
        kept: The names of the files.
    """
    lines = [files.discard(workdir)]
    lines += [words("rm", "-f", f"{_kept(workdir)}/{name}") for name in kept]
    lines += [_remove_image(image, names) for image, names in images]
    return "\n".join(lines)


def _remove_image(image: str, names: tuple[str, ...]) -> str:
    """By its id it goes only while it has one name; never by force, so that what runs stays."""
    by_id = words("docker", "image", "rm", image)
    by_name = words("docker", "image", "rm", *names) if names else "false"
    told = words("echo", "stays", image)
    return f"{by_id} >/dev/null 2>&1 || {by_name} >/dev/null 2>&1 || {told}"


def _kept(workdir: str) -> str:
    return f"{workdir}/{RECORDS}/releases"
