"""What comes of looking at something before a deploy: well, or what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

from ktrdr.errors import HostNotReady, KtrdrError


class Finding(NamedTuple):
    """Something that keeps a deploy from succeeding, and what to do about it.

    Attributes:
        complaint: What is wrong, in words that follow a name.
        remedy: What to do, one sentence.
        exit_code: What a deploy that stumbles over it exits with.
    """

    complaint: str
    remedy: str
    exit_code: int = HostNotReady.exit_code

    @classmethod
    def of(cls, error: KtrdrError) -> Self:
        """The same as an error says."""
        return cls(error.message, error.hint or "", error.exit_code)


class Point(NamedTuple):
    """One thing that was looked at; without findings it is well.

    Attributes:
        name: What it is.
        detail: What was seen of it, in a few words.
        findings: What is wrong with it.
        remark: Something worth knowing that is no fault, one sentence.
    """

    name: str
    detail: str = ""
    findings: tuple[Finding, ...] = ()
    remark: str = ""


def findings_of(points: Iterable[Point]) -> Iterator[Finding]:
    """All that is wrong, in the order of the points."""
    return (finding for point in points for finding in point.findings)
