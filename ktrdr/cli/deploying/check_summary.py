"""What was looked at before a deploy, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from ktrdr.deployment.check import Checked, exit_code
from ktrdr.deployment.finding import Finding, Point

# Raised when a key disappears or changes its meaning; new keys may come at any time.
SCHEMA: Final = 1
_INDENT: Final = 4


def show(console: Console, report: Sequence[Checked]) -> None:
    """Prints each place: what is well in one paragraph, then what is not, with its remedy."""
    for number, checked in enumerate(report):
        if number:
            console.print()
        heading = Text(checked.place, style="bold").append(f"  {checked.about}", style="dim")
        console.print(heading, soft_wrap=True)
        well = [point for point in checked.points if not point.findings and not point.remark]
        if well:
            _line(console, "✓", "green", _joined(well))
        for remark in dict.fromkeys(point.remark for point in checked.points if point.remark):
            _line(console, "!", "yellow", Text(remark))
        for remedy, findings in groupby(checked.findings, key=lambda each: each.remedy):
            for finding in findings:
                _line(console, "✗", "red", Text(finding.complaint))
            if remedy:
                _line(console, " ", "", Text(f"→ {remedy}", style="dim"))
    console.print()
    console.print(verdict(report))


def verdict(report: Sequence[Checked]) -> str:
    """One sentence: whether a deploy would stumble."""
    count = sum(len(checked.findings) for checked in report)
    if not count:
        return "All is well: a deploy can begin."
    return f"{count} {'thing is' if count == 1 else 'things are'} wrong; nothing was changed."


def to_json(report: Sequence[Checked]) -> dict[str, Any]:
    """The document that ``--json`` prints."""
    return {
        "schema": SCHEMA,
        "ok": not any(checked.findings for checked in report),
        "exit_code": exit_code(report),
        "places": [
            {
                "place": checked.place,
                "about": checked.about,
                "points": [_point(point) for point in checked.points],
            }
            for checked in report
        ],
    }


def _point(point: Point) -> dict[str, Any]:
    return {
        "name": point.name,
        "ok": not point.findings,
        "detail": point.detail or None,
        "remark": point.remark or None,
        "findings": [_finding(finding) for finding in point.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "complaint": finding.complaint,
        "remedy": finding.remedy or None,
        "exit_code": finding.exit_code,
    }


def _joined(points: Sequence[Point]) -> Text:
    texts = [Text(point.name) for point in points]
    for text, point in zip(texts, points, strict=True):
        if point.detail:
            text.append(f" {point.detail}", style="dim")
    return Text(" · ").join(texts)


def _line(console: Console, sign: str, style: str, text: Text) -> None:
    """A line under its sign; what is too long for the terminal goes on beneath its beginning."""
    for number, line in enumerate(text.wrap(console, console.width - _INDENT)):
        line.rstrip()
        begin = Text(f"  {sign} " if number == 0 else " " * _INDENT, style=style)
        console.print(begin.append_text(line), soft_wrap=True)
