"""A heat map as inline SVG: a figure over two axes, blue above zero and red below."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ktrdr.reporting.charts import WIDTH

LEFT, TOP, BOTTOM = 116, 34, 12
CELL_HEIGHT: Final = 40
WIDEST_CELL: Final = 110
# Narrower cells have no room for their figure; it is still there when pointed at.
NARROWEST_WITH_TEXT: Final = 42
NARROWEST_LABEL: Final = 34
FAINTEST, STRONGEST = 0.08, 0.62


@dataclass(frozen=True, slots=True)
class Axis:
    """A name, and the values along it."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Cell:
    """A place on the map.

    Attributes:
        value: The figure, or None where there is none.
        note: What is shown when somebody points at it.
        text: What stands in it where there is no figure.
        marked: Whether it is framed.
    """

    value: float | None
    note: str
    text: str = ""
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Shades:
    """Gives each figure its colour; several maps that are compared share one."""

    least: float
    most: float
    diverges: bool

    @classmethod
    def over(cls, values: Sequence[float]) -> Shades:
        """Shades that tell these figures apart.

        Where they are on both sides of zero, equal distances from it are equally strong; on one
        side of it the whole range of strengths is used between the least and the most.
        """
        sizes = [abs(value) for value in values] or [0.0]
        diverges = min(values, default=0.0) < 0 < max(values, default=0.0)
        return cls(0.0 if diverges else min(sizes), max(sizes), diverges)

    def style(self, value: float) -> str:
        """The fill of a cell."""
        if not value:
            return "fill:var(--card)"
        span = self.most - self.least
        share = (abs(value) - self.least) / span if span > 0 else 0.5
        colour = "red" if value < 0 else "blue"
        opacity = FAINTEST + (STRONGEST - FAINTEST) * min(max(share, 0.0), 1.0)
        return f"fill:var(--{colour});fill-opacity:{opacity:.3f}"


def heat_map(
    across: Axis,
    down: Axis,
    cells: Mapping[tuple[float, float], Cell],
    shades: Shades,
    *,
    form: Callable[[float], str],
    title: str = "",
) -> str:
    """The map of ``cells`` by their values across and down; places without a cell stay empty."""
    room = WIDTH - LEFT - 4
    width = min(room / len(across.values), float(WIDEST_CELL))
    whole = LEFT + width * len(across.values) + 4
    height = TOP + CELL_HEIGHT * len(down.values) + BOTTOM
    parts = [
        *_column_names(across, width),
        *_row_names(down),
    ]
    for row, low in enumerate(down.values):
        for column, high in enumerate(across.values):
            place = (LEFT + column * width, TOP + row * CELL_HEIGHT)
            parts.append(_cell(cells.get((high, low)), place, width, shades, form))
    named = html.escape(title or f"{down.name} by {across.name}")
    caption = f"<figcaption>{html.escape(title)}</figcaption>" if title else ""
    return (
        f'<figure style="max-width:{whole:.0f}px">{caption}<svg viewBox="0 0 {whole:.0f} {height}" '
        f'role="img" aria-label="{named}">{"".join(parts)}</svg></figure>'
    )


def _column_names(axis: Axis, width: float) -> list[str]:
    every = math.ceil(NARROWEST_LABEL / width)
    names = [
        _text(LEFT + (column + 0.5) * width, TOP - 8, f"{value:g}", "middle")
        for column, value in enumerate(axis.values)
        if column % every == 0
    ]
    return [_text(0, TOP - 8, f"{axis.name} →", "start"), *names]


def _row_names(axis: Axis) -> list[str]:
    if not axis.name:
        return []
    names = [
        _text(LEFT - 10, TOP + (row + 0.5) * CELL_HEIGHT + 4, f"{value:g}", "end")
        for row, value in enumerate(axis.values)
    ]
    return [_text(0, TOP + CELL_HEIGHT / 2 + 4, f"{axis.name} ↓", "start"), *names]


def _cell(
    cell: Cell | None,
    place: tuple[float, float],
    width: float,
    shades: Shades,
    form: Callable[[float], str],
) -> str:
    left, top = place
    if cell is None:
        return _text(left + width / 2, top + CELL_HEIGHT / 2 + 4, "·", "middle")
    frame = "stroke:var(--ink);stroke-width:2" if cell.marked else "stroke:none"
    fill = "fill:var(--card)" if cell.value is None else shades.style(cell.value)
    shown = cell.text if cell.value is None else form(cell.value)
    gap = min(3.0, width / 6)
    drawn = (
        f'<g><title>{html.escape(cell.note)}</title><rect x="{left + gap / 2:.1f}" '
        f'y="{top + 1.5:.1f}" width="{width - gap:.1f}" height="{CELL_HEIGHT - 3}" rx="4" '
        f'style="{fill};{frame}"/>'
    )
    if width >= NARROWEST_WITH_TEXT:
        weight = "font-weight:600;" if cell.marked else ""
        colour = "var(--soft)" if cell.value is None else "var(--ink)"
        drawn += _text(
            left + width / 2,
            top + CELL_HEIGHT / 2 + 4,
            shown,
            "middle",
            f"{weight}fill:{colour};font-variant-numeric:tabular-nums",
        )
    return f"{drawn}</g>"


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    styled = f' style="{style}"' if style else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{styled}>{html.escape(text)}</text>'
    )
