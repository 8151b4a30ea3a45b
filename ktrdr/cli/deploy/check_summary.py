"""What was looked at before a deploy, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from ktrdr.deployment.check.query import Checked, exit_code
from ktrdr.deployment.hosts.problems import Finding, Point

# Raised when a key disappears or changes its meaning; new keys may come at any time.
SCHEMA: Final = 1
_INDENT: Final = 4


def show(console: Console, report: Sequence[Checked]) -> None:
    """Prints each host: what is well in one paragraph, then what is not, with its remedy."""
    for number, checked in enumerate(report):
        if number:
            console.print()
        console.print(Text.assemble((checked.host, "bold"), (f"  {checked.about}", "dim")))
        well = [point for point in checked.points if not point.findings and not point.remark]
        if well:
            _lines(console, "✓", "green", _filled(well, console.width - _INDENT))
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
        "hosts": [
            {
                "host": checked.host,
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


def _filled(points: Sequence[Point], width: int) -> list[Text]:
    """The points in lines that are not longer than the width, unless a single one is."""
    lines: list[Text] = []
    for number, point in enumerate(points):
        text = Text.assemble(point.name, (f" {point.detail}" if point.detail else "", "dim"))
        text.append(" ·" if number < len(points) - 1 else "")
        if lines and lines[-1].cell_len + 1 + text.cell_len <= width:
            lines[-1].append(" ").append_text(text)
        else:
            lines.append(text)
    return lines


def _line(console: Console, sign: str, style: str, text: Text) -> None:
    """A sentence under its sign; what is too long goes on beneath its beginning."""
    _lines(console, sign, style, text.wrap(console, console.width - _INDENT))


def _lines(console: Console, sign: str, style: str, lines: Iterable[Text]) -> None:
    for number, line in enumerate(lines):
        line.rstrip()
        begin = Text.assemble("  ", (sign, style), " ") if number == 0 else Text(" " * _INDENT)
        console.print(begin.append_text(line), soft_wrap=True)
