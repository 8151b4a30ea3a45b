"""Charts as inline SVG, in the page's colours."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

WIDTH: Final = 960
LEFT, RIGHT, TOP, BOTTOM = 72, 12, 28, 28
# More points than pixels add nothing but bytes.
MAX_POINTS: Final = 1400


@dataclass(frozen=True, slots=True)
class Line:
    """A series over the common x positions 0, 1, 2 and so on."""

    name: str
    values: Sequence[float]
    colour: str
    is_filled: bool = False
    is_thin: bool = False


@dataclass(frozen=True, slots=True)
class Marker:
    """A triangle at a point: up for a purchase, down for a sale."""

    x: int
    y: float
    is_up: bool


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear map from values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.start + share * (self.end - self.start)


def round_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` round values in a range: 1, 2 or 5 times a power of ten."""
    span = high - low
    if span <= 0:
        return [low]
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def line_chart(
    lines: Sequence[Line],
    labels: Sequence[str],
    *,
    height: int = 300,
    format_value: Callable[[float], str],
    bands: Sequence[int] = (),
    markers: Sequence[Marker] = (),
    caption: str = "",
) -> str:
    """Draw lines over a common axis.

    Args:
        lines: The series, all of one length.
        labels: Text of the x axis for every position; the chart shows a few.
        height: Height in the units of the drawing, which is 960 wide.
        format_value: Function that formats a value of the y axis.
        bands: Positions where a new background band begins, such as folds.
        markers: Triangles on the chart.
        caption: Text below the chart.
    """
    count = len(labels)
    values = [value for line in lines for value in line.values]
    low, high = min(values), max(values)
    is_filled = any(line.is_filled for line in lines)
    if is_filled:
        low, high = min(low, 0.0), max(high, 0.0)
    pad = (high - low) * 0.04 or 1.0
    y = Scale(low - pad, high + (0 if is_filled else pad), height - BOTTOM, TOP)
    x = Scale(0, max(count - 1, 1), LEFT, WIDTH - RIGHT)
    parts = [
        *_bands(bands, count, x, height),
        *_y_axis(round_ticks(y.low, y.high), y, format_value),
        *_x_axis(labels, x, height),
        *(_line(line, x, y) for line in lines),
        *(_marker(marker, x, y) for marker in markers),
        _legend([line for line in lines if line.name]),
    ]
    label = html.escape(caption or ", ".join(line.name for line in lines))
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg><figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def matrix_chart(
    cells: Sequence[Sequence[int]], names: Sequence[str], *, across: str, down: str
) -> str:
    """Draw a square of counts, darker for larger ones; rows are ``down``, columns ``across``."""
    size, left, top = 110, 150, 54
    most = max((max(row) for row in cells), default=0) or 1
    parts = [f'<text x="{left}" y="18">{html.escape(across)}</text>']
    for column, name in enumerate(names):
        middle = left + column * size + size / 2
        parts.append(
            f'<text x="{middle}" y="{top - 10}" text-anchor="middle">{html.escape(name)}</text>'
        )
    for row, (name, counts) in enumerate(zip(names, cells, strict=True)):
        level = top + row * size
        parts.append(
            f'<text x="{left - 12}" y="{level + size / 2 + 4}" text-anchor="end">'
            f"{html.escape(f'{down} {name}')}</text>"
        )
        for column, count in enumerate(counts):
            parts.append(_cell(left + column * size, level, size, count, count / most))
    width, height = left + len(names) * size + 10, top + len(names) * size + 10
    return (
        f'<figure style="max-width:{width}px"><svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{html.escape(across)} by {html.escape(down)}">{"".join(parts)}</svg></figure>'
    )


def _cell(left: float, top: float, size: int, count: int, share: float) -> str:
    return (
        f'<rect x="{left}" y="{top}" width="{size - 4}" height="{size - 4}" rx="6" '
        f'style="fill:var(--blue);opacity:{0.08 + 0.5 * share:.2f}"/>'
        f'<text x="{left + size / 2 - 2}" y="{top + size / 2 + 5}" text-anchor="middle" '
        f'style="fill:var(--ink);font-size:18px">{count:,}</text>'
    )


def _bands(starts: Sequence[int], count: int, x: Scale, height: int) -> list[str]:
    edges = [*starts, count - 1]
    return [
        f'<rect x="{x(start):.1f}" y="{TOP}" width="{x(end) - x(start):.1f}" '
        f'height="{height - TOP - BOTTOM}" style="fill:var(--card)"/>'
        for number, (start, end) in enumerate(pairwise(edges))
        if number % 2 == 0
    ]


def _y_axis(values: Sequence[float], y: Scale, format_value: Callable[[float], str]) -> list[str]:
    return [
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
        f'style="stroke:var(--line)"/><text x="{LEFT - 8}" y="{y(value) + 4:.1f}" '
        f'text-anchor="end">{html.escape(format_value(value))}</text>'
        for value in values
    ]


def _x_axis(labels: Sequence[str], x: Scale, height: int) -> list[str]:
    shown = min(len(labels), 7)
    positions = [round(n * (len(labels) - 1) / max(shown - 1, 1)) for n in range(shown)]
    anchors = ["start", *["middle"] * (shown - 2), "end"][:shown]
    return [
        f'<text x="{x(position):.1f}" y="{height - 8}" text-anchor="{anchor}">'
        f"{html.escape(labels[position])}</text>"
        for position, anchor in zip(positions, anchors, strict=True)
    ]


def _line(line: Line, x: Scale, y: Scale) -> str:
    positions = _downsample(line.values)
    points = " ".join(f"{x(n):.1f},{y(line.values[n]):.1f}" for n in positions)
    width = 1 if line.is_thin else 1.6
    drawn = (
        f'<polyline points="{points}" style="fill:none;stroke:var(--{line.colour});'
        f'stroke-width:{width};stroke-linejoin:round"/>'
    )
    if line.is_filled:
        base = y(0.0)
        area = f"{x(positions[0]):.1f},{base:.1f} {points} {x(positions[-1]):.1f},{base:.1f}"
        drawn = f'<polygon points="{area}" style="fill:var(--{line.colour});opacity:.25"/>' + drawn
    return drawn


def _downsample(values: Sequence[float]) -> list[int]:
    """Return all positions or, above MAX_POINTS, the extremes of equal parts and both ends.

    A chart of twenty years thus still shows a crash of one day.
    """
    if len(values) <= MAX_POINTS:
        return list(range(len(values)))
    step = math.ceil(2 * len(values) / MAX_POINTS)
    positions = {0, len(values) - 1}
    for start in range(0, len(values), step):
        part = range(start, min(start + step, len(values)))
        positions |= {min(part, key=values.__getitem__), max(part, key=values.__getitem__)}
    return sorted(positions)


def _marker(marker: Marker, x: Scale, y: Scale) -> str:
    left, level, side = x(marker.x), y(marker.y), 4.5
    tip = level - side if marker.is_up else level + side
    base = level + side if marker.is_up else level - side
    colour = "green" if marker.is_up else "red"
    points = f"{left:.1f},{tip:.1f} {left - side:.1f},{base:.1f} {left + side:.1f},{base:.1f}"
    return f'<polygon points="{points}" style="fill:var(--{colour})"/>'


def _legend(lines: Sequence[Line]) -> str:
    parts, left = [], LEFT
    for line in lines:
        parts.append(
            f'<rect x="{left}" y="{TOP - 18}" width="14" height="3" '
            f'style="fill:var(--{line.colour})"/>'
            f'<text x="{left + 20}" y="{TOP - 12}">{html.escape(line.name)}</text>'
        )
        left += 36 + 7 * len(line.name)
    return "".join(parts)
