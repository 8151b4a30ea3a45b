"""What the registry said of images when a host asked it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Answer(NamedTuple):
    """An image's digest with code 0, or the reason why there is none with another code."""

    code: int
    text: str


def read_digests(lines: Iterable[str]) -> dict[str, Answer]:
    """Return the registry's answers by image, from lines ``IMAGE CODE TEXT``."""
    parts = (line.split(" ", 2) for line in lines)
    return {
        part[0]: Answer(int(part[1]), part[2].strip())
        for part in parts
        if len(part) == 3 and part[1].isdigit()
    }
