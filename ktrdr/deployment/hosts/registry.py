"""Answers of the registry to a host's queries about images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class RegistryAnswer(NamedTuple):
    """Answer about one image.

    Attributes:
        code: 0 if the registry has the image; otherwise the exit code of the query.
        text: Digest of the image, or the reason why there is none.
    """

    code: int
    text: str


def parse_registry_answers(lines: Iterable[str]) -> dict[str, RegistryAnswer]:
    """Parse lines ``IMAGE CODE TEXT``; return the answers by image."""
    parts = (line.split(" ", 2) for line in lines)
    return {
        part[0]: RegistryAnswer(int(part[1]), part[2].strip())
        for part in parts
        if len(part) == 3 and part[1].isdigit()
    }
