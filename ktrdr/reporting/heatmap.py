"""Heat maps as inline SVG: values over two axes, blue above zero and red below."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ktrdr.reporting.charts import WIDTH

LEFT, TOP, BOTTOM = 116, 34, 12
CELL_HEIGHT: Final = 40
MAX_CELL_WIDTH: Final = 110
# Narrower cells have no room for their value, which the tooltip still shows.
MIN_WIDTH_WITH_TEXT: Final = 42
MIN_LABEL_WIDTH: Final = 34
MIN_OPACITY, MAX_OPACITY = 0.08, 0.62


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis with a name and values."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a heat map.

    Attributes:
        value: Value of the cell, or None.
        tooltip: Text shown when the pointer is over the cell.
        text: Text of a cell without a value.
        is_marked: True to draw a frame.
    """

    value: float | None
    tooltip: str
    text: str = ""
    is_marked: bool = False


@dataclass(frozen=True, slots=True)
class ColourScale:
    """A scale from values to colours. Maps to be compared share one scale."""

    minimum: float
    maximum: float
    is_diverging: bool

    @classmethod
    def for_values(cls, values: Sequence[float]) -> ColourScale:
        """Return the scale that best distinguishes the values.

        For values on both sides of zero, equal distances from zero have equal strength. For values
        on one side, the scale uses the whole range of strengths.
        """
        sizes = [abs(value) for value in values] or [0.0]
        is_diverging = min(values, default=0.0) < 0 < max(values, default=0.0)
        return cls(0.0 if is_diverging else min(sizes), max(sizes), is_diverging)

    def fill_style(self, value: float) -> str:
        """Return the CSS fill of a cell."""
        if not value:
            return "fill:var(--card)"
        span = self.maximum - self.minimum
        share = (abs(value) - self.minimum) / span if span > 0 else 0.5
        colour = "red" if value < 0 else "blue"
        opacity = MIN_OPACITY + (MAX_OPACITY - MIN_OPACITY) * min(max(share, 0.0), 1.0)
        return f"fill:var(--{colour});fill-opacity:{opacity:.3f}"


def heat_map(
    across: Axis,
    down: Axis,
    cells: Mapping[tuple[float, float], Cell],
    colours: ColourScale,
    *,
    format_value: Callable[[float], str],
    title: str = "",
) -> str:
    """Draw ``cells`` by their values across and down. A missing cell is a dot."""
    width = min((WIDTH - LEFT - 4) / len(across.values), float(MAX_CELL_WIDTH))
    total_width = LEFT + width * len(across.values) + 4
    height = TOP + CELL_HEIGHT * len(down.values) + BOTTOM
    parts = [*_column_names(across, width), *_row_names(down)]
    for row, y in enumerate(down.values):
        for column, x in enumerate(across.values):
            corner = (LEFT + column * width, TOP + row * CELL_HEIGHT)
            parts.append(_cell(cells.get((x, y)), corner, width, colours, format_value))
    label = html.escape(title or f"{down.name} by {across.name}")
    caption = f"<figcaption>{html.escape(title)}</figcaption>" if title else ""
    return (
        f'<figure style="max-width:{total_width:.0f}px">{caption}'
        f'<svg viewBox="0 0 {total_width:.0f} {height}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _column_names(axis: Axis, width: float) -> list[str]:
    every = math.ceil(MIN_LABEL_WIDTH / width)
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
    corner: tuple[float, float],
    width: float,
    colours: ColourScale,
    format_value: Callable[[float], str],
) -> str:
    left, top = corner
    if cell is None:
        return _text(left + width / 2, top + CELL_HEIGHT / 2 + 4, "·", "middle")
    frame = "stroke:var(--ink);stroke-width:2" if cell.is_marked else "stroke:none"
    fill = "fill:var(--card)" if cell.value is None else colours.fill_style(cell.value)
    shown = cell.text if cell.value is None else format_value(cell.value)
    gap = min(3.0, width / 6)
    drawn = (
        f'<g><title>{html.escape(cell.tooltip)}</title><rect x="{left + gap / 2:.1f}" '
        f'y="{top + 1.5:.1f}" width="{width - gap:.1f}" height="{CELL_HEIGHT - 3}" rx="4" '
        f'style="{fill};{frame}"/>'
    )
    if width >= MIN_WIDTH_WITH_TEXT:
        weight = "font-weight:600;" if cell.is_marked else ""
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
