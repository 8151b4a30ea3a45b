"""Answers of the registry to a host's queries about images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class RegistryAnswer(NamedTuple):
    """Answer about one image.

    Attributes:
        code: 0 if the registry has the image; otherwise the exit code of the query.
        text: Digest of the image, or the reason why there is none.
        commits: Commits that it was built from, as the records of its builds say, if any.
    """

    code: int
    text: str
    commits: tuple[str, ...] = ()


def parse_registry_answers(lines: Iterable[str]) -> dict[str, RegistryAnswer]:
    """Parse lines ``IMAGE 0 DIGEST COMMIT…`` and ``IMAGE CODE REASON``; return answers by image."""
    answers = {}
    for line in lines:
        match line.split(" ", 2):
            case [image, "0", text]:
                digest, *commits = text.split() or [""]
                answers[image] = RegistryAnswer(0, digest, tuple(commits))
            case [image, code, text] if code.isdigit():
                answers[image] = RegistryAnswer(int(code), text.strip())
    return answers
