"""Lets one script answer several questions: its output comes in sections, each under its title."""

from __future__ import annotations

from typing import Final

_MARK: Final = "== "


def section(title: str) -> str:
    """The command that begins a section of the output."""
    return f"echo '{_MARK}{title}'"


def split(output: str) -> dict[str, list[str]]:
    """The lines of each section by its title; what stands before the first is left out."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in output.splitlines():
        if line.startswith(_MARK):
            lines = found.setdefault(line.removeprefix(_MARK), [])
        else:
            lines.append(line)
    return found


def title_in(line: str) -> str | None:
    """The title of the section that a line begins, or None if it begins none."""
    return line.removeprefix(_MARK) if line.startswith(_MARK) else None
