"""Charts are well-formed SVG, stay within their frame and show the given values."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.reporting.charts import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Line,
    Marker,
    Scale,
    line_chart,
    matrix_chart,
    round_ticks,
)


def points(element: ET.Element) -> list[tuple[float, float]]:
    pairs = (pair.split(",") for pair in element.attrib["points"].split())
    return [(float(x), float(y)) for x, y in pairs]


def texts(chart: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(chart).iter("text")]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_every_point_is_within_the_frame(values: list[float]) -> None:
    chart = line_chart(
        [Line("a", values, "blue")], ["x"] * len(values), height=200, format_value=str
    )
    (line,) = ET.fromstring(chart).iter("polyline")
    for x, y in points(line):
        assert LEFT <= x <= WIDTH - RIGHT
        assert TOP - 0.05 <= y <= 200 - BOTTOM + 0.05


def test_higher_values_are_drawn_higher_and_later_ones_further_right() -> None:
    chart = line_chart([Line("a", [1, 2, 3], "blue")], ["x"] * 3, format_value=str)
    (line,) = ET.fromstring(chart).iter("polyline")
    (x1, y1), (x2, y2), (x3, y3) = points(line)
    assert x1 < x2 < x3
    assert y1 > y2 > y3


def test_purchases_point_up_and_sales_point_down() -> None:
    markers = [Marker(0, 5.0, is_up=True), Marker(1, 5.0, is_up=False)]
    chart = line_chart([Line("", [5, 5], "grey")], ["x"] * 2, format_value=str, markers=markers)
    up, down = (points(triangle) for triangle in ET.fromstring(chart).iter("polygon"))
    assert up[0][1] < up[1][1] == up[2][1]
    assert down[0][1] > down[1][1] == down[2][1]


@pytest.mark.parametrize("count", [1, 2, 7, 500])
def test_the_first_and_the_last_position_are_labelled(count: int) -> None:
    labels = [f"bar {n}" for n in range(count)]
    shown = texts(line_chart([Line("", [1.0] * count, "blue")], labels, format_value=str))
    assert labels[0] in shown
    assert labels[-1] in shown


def test_ticks_are_round() -> None:
    assert round_ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert round_ticks(-0.21, 0) == [-0.2, -0.15, -0.1, -0.05, 0]
    assert round_ticks(3, 3) == [3]


@given(
    st.floats(-1e6, 1e6, allow_nan=False),
    st.floats(1e-3, 1e6, allow_nan=False),
)
def test_ticks_are_few_and_within_the_range(low: float, span: float) -> None:
    positions = round_ticks(low, low + span)
    assert 1 <= len(positions) <= 11
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in positions)


def test_a_chart_with_special_characters_is_well_formed_and_keeps_the_last_point() -> None:
    values = [float(n % 7) for n in range(5000)]
    chart = line_chart(
        [Line("a & b", values, "blue")],
        ["x"] * 5000,
        format_value=str,
        caption="<script>alert('x')</script>&\"",
    )
    (line,) = ET.fromstring(chart).iter("polyline")
    assert line.attrib["points"].split()[-1].startswith("948.0,")


def test_a_scale_without_a_range_puts_everything_in_the_middle() -> None:
    assert Scale(5, 5, 0, 100)(5) == 50


def test_a_matrix_shows_every_count_and_shades_the_largest_most() -> None:
    chart = matrix_chart([[1, 20], [300, 4000]], ["fell", "rose"], across="said", down="it")
    assert [text for text in texts(chart) if text[0].isdigit()] == ["1", "20", "300", "4,000"]
    shades = [
        float(cell.attrib["style"].rpartition(":")[2]) for cell in ET.fromstring(chart).iter("rect")
    ]
    assert shades == sorted(shades)


def test_a_matrix_of_zeros_can_be_drawn() -> None:
    assert texts(matrix_chart([[0, 0], [0, 0]], ["a", "b"], across="x", down="y")).count("0") == 4


def test_a_single_outlier_among_twenty_thousand_bars_is_drawn() -> None:
    values = [100.0] * 20_000
    values[12_345] = 10.0
    chart = line_chart(
        [Line("a", values, "blue")], ["x"] * len(values), height=200, format_value=str
    )
    (line,) = ET.fromstring(chart).iter("polyline")
    heights = {y for _, y in points(line)}
    assert len(heights) == 2
    assert len(points(line)) < 3_000
