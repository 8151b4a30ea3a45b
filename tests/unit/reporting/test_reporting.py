"""Pages escape what they are given; axes are round."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from ktrdr.reporting.charts import Line, line_chart, ticks
from ktrdr.reporting.page import Card, cards, definitions, page, percent, table

NASTY = "<script>alert('x')</script>&\""


def test_no_text_gets_into_a_page_as_markup() -> None:
    parts = [cards([Card(NASTY, NASTY)]), table([NASTY], [[NASTY]]), definitions([(NASTY, NASTY)])]
    assert "<script" not in page(NASTY, NASTY, parts)


@given(
    st.floats(-1e6, 1e6, allow_nan=False),
    st.floats(1e-3, 1e6, allow_nan=False),
)
def test_ticks_are_few_and_within_the_range(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 11
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in found)


def test_a_chart_is_well_formed_and_keeps_the_last_point() -> None:
    values = [float(n % 7) for n in range(5000)]
    chart = line_chart([Line("a & b", values, "blue")], ["x"] * 5000, form=str, caption=NASTY)
    drawn = ET.fromstring(chart)
    (line,) = drawn.iter("polyline")
    assert line.attrib["points"].split()[-1].startswith("948.0,")


def test_percent_writes_a_true_minus() -> None:
    assert percent(-0.1234) == "\u221212.34 %"
