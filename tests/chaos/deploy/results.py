"""Results of cases: file format, and a table by fault."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from tests.chaos.deploy.case_run import CaseResult
from tests.chaos.deploy.cases import Case
from tests.chaos.deploy.faults import FAULTS

COLUMNS = (
    "injected",
    "old serves",
    "new serves",
    "both",
    "neither",
    "stopped",
    "serves after",
    "lock free after",
    "converged",
    "longest gap",
)


def append_result(result: CaseResult, file: Path) -> None:
    """Append a result to a file."""
    with file.open("a") as lines:
        lines.write(json.dumps(asdict(result)) + "\n")


def read_results(file: Path) -> list[CaseResult]:
    """Return the results in a file; of a case that ran several times, the latest."""
    lines = file.read_text().splitlines() if file.exists() else []
    entries = [json.loads(line) for line in lines]
    results = [CaseResult(**{**entry, "case": Case(**entry["case"])}) for entry in entries]
    return list({(result.case.seed, result.case.number): result for result in results}.values())


def result_table(results: Iterable[CaseResult]) -> list[tuple[str, ...]]:
    """Return a row for each injected fault, and one for all faults.

    ``both`` counts nodes with healthy services of the old and of the new release, ``stopped`` those
    whose services only the next deploy started. Times are maxima in seconds.
    """
    injected = [result for result in results if result.injected]
    rows = [
        (name, *_figures([result for result in injected if result.case.fault == name]))
        for name in FAULTS
        if any(result.case.fault == name for result in injected)
    ]
    return [*rows, ("all", *_figures(injected))] if injected else []


def _figures(results: list[CaseResult]) -> tuple[str, ...]:
    serves = [result.serves for result in results]
    return (
        str(len(results)),
        *(str(serves.count(kind)) for kind in ("old", "new", "both", "neither", "stopped")),
        f"{max(result.serving_s for result in results):.0f} s",
        f"{max(result.lock_free_s for result in results):.0f} s",
        str(sum(result.converged for result in results)),
        f"{max(result.gap_s for result in results):.0f} s",
    )
