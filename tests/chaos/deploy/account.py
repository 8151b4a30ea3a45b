"""What a run of cases came to, by fault."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from tests.chaos.deploy.cases import Case
from tests.chaos.deploy.faults import FAULTS
from tests.chaos.deploy.play import Ended

COLUMNS = (
    "injected",
    "old serves",
    "new serves",
    "both",
    "neither",
    "serves after",
    "lock free after",
    "converged",
    "longest gap",
)


def note(ended: Ended, file: Path) -> None:
    """Adds what came of a case to a file."""
    with file.open("a") as lines:
        lines.write(json.dumps(asdict(ended)) + "\n")


def read(file: Path) -> list[Ended]:
    """What came of all cases in a file; of a case that was played again, the last time counts."""
    lines = file.read_text().splitlines() if file.exists() else []
    found = [json.loads(line) for line in lines]
    ended = [Ended(**{**each, "case": Case(**each["case"])}) for each in found]
    return list({(each.case.seed, each.case.number): each for each in ended}.values())


def table(ended: Iterable[Ended]) -> list[tuple[str, ...]]:
    """A row for each fault that was injected, and one for all of them.

    ``both`` are nodes some of whose services are of the old release and some of the new one: all
    of them well. Times are the longest, in seconds.
    """
    struck = [each for each in ended if each.struck]
    rows = [
        (name, *_figures([each for each in struck if each.case.fault == name]))
        for name in FAULTS
        if any(each.case.fault == name for each in struck)
    ]
    return [*rows, ("all", *_figures(struck))] if struck else []


def _figures(ended: list[Ended]) -> tuple[str, ...]:
    serves = [each.serves for each in ended]
    return (
        str(len(ended)),
        *(str(serves.count(kind)) for kind in ("old", "new", "both", "neither")),
        f"{max(each.serving_s for each in ended):.0f} s",
        f"{max(each.lock_free_s for each in ended):.0f} s",
        str(sum(each.converged for each in ended)),
        f"{max(each.gap_s for each in ended):.0f} s",
    )
