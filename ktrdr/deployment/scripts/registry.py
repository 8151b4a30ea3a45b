"""Asks the registry for images, through a host's own Docker daemon, and pulls nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from ktrdr.deployment.scripts.script import words

# Compose asks the daemon, which has the host's mirrors, proxy and certificates, and passes on
# DOCKER_AUTH_CONFIG, as in a pull. One printf a line, so that lines of several do not mix.
_ASKS: Final = """asks() {
answer=$(printf 'services: {image: {image: "%s"}}\\n' "$1" |
docker compose -p ktrdr-asks -f - config --resolve-image-digests 2>&1) && code=0 || code=$?
[ "$code" != 0 ] || answer=$(printf %s "$answer" | sed -n 's/^ *image: .*@//p')
printf '%s %s %s\\n' "$1" "$code" "$(printf %s "$answer" | tr '\\n' ' ')"
}"""


class Answer(NamedTuple):
    """What the registry says of an image: its digest with code 0, or why not with another."""

    code: int
    text: str


def digests(images: Iterable[str], *, unless_there: Iterable[str] = ()) -> str:
    """Prints ``IMAGE 0 DIGEST`` or ``IMAGE CODE REASON`` for each image, all asked at once.

    Args:
        images: Those to ask for.
        unless_there: Those to ask for only where the host does not have them.
    """
    asked = [f"{words('asks', image)} &" for image in images]
    asked += [
        f"{words('docker', 'image', 'inspect', image)} >/dev/null 2>&1 || {words('asks', image)} &"
        for image in unless_there
    ]
    return "\n".join([_ASKS, *asked, "wait"])


def read_digests(lines: Iterable[str]) -> dict[str, Answer]:
    """What the registry said, by image, from the output of `digests`."""
    parts = (line.split(" ", 2) for line in lines)
    return {
        part[0]: Answer(int(part[1]), part[2].strip())
        for part in parts
        if len(part) == 3 and part[1].isdigit()
    }
