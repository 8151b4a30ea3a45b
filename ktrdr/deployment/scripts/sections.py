"""Reader of output in sections, each under its title: one script answers several questions."""

from __future__ import annotations

from typing import Final

_MARK: Final = "== "


def split(output: str) -> dict[str, list[str]]:
    """Return the lines of each section by its title, without those that stand before the first."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in output.splitlines():
        if line.startswith(_MARK):
            lines = sections.setdefault(line.removeprefix(_MARK), [])
        else:
            lines.append(line)
    return sections
