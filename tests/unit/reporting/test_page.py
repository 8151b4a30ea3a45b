"""Numbers are formatted for readers; pages are complete, and their text is escaped."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from ktrdr.reporting.page import (
    Card,
    card_row,
    definition_list,
    format_number,
    format_percent,
    gain_tone,
    render_page,
    section,
    table,
)


@pytest.mark.parametrize(
    ("value", "written"),
    [(None, "n/a"), (0.0, "0.00"), (1234567.891, "1,234,567.89"), (-2.5, "\u22122.50")],
)
def test_numbers_have_thousands_separators_and_a_real_minus(
    value: float | None, written: str
) -> None:
    assert format_number(value) == written


@pytest.mark.parametrize(
    ("value", "digits", "written"),
    [
        (None, 2, "n/a"),
        (0.5, 0, "50 %"),
        (0.123456, 2, "12.35 %"),
        (12.5, 1, "1,250.0 %"),
        (-0.1234, 2, "\u221212.34 %"),
    ],
)
def test_fractions_are_written_as_percent(value: float | None, digits: int, written: str) -> None:
    assert format_percent(value, digits) == written


@pytest.mark.parametrize(("value", "tone"), [(1.0, "good"), (-1.0, "bad"), (0.0, ""), (None, "")])
def test_gains_are_good_losses_bad_and_zero_is_neither(value: float | None, tone: str) -> None:
    assert gain_tone(value) == tone


def test_text_columns_are_marked() -> None:
    drawn = table(("name", "sum"), [("a", "1")])
    assert drawn.count("class=text") == 2
    assert re.search(r"<td class=text>a</td><td>1</td>", drawn)


def test_a_page_is_complete_and_loads_no_resources() -> None:
    drawn = render_page("T", "S", [card_row([Card("n", "v")]), section("H", "<p>x</p>")])
    assert drawn.startswith("<!doctype html>")
    assert drawn.count("<body>") == drawn.count("</body>") == 1
    assert not re.search(r"(src|href)=|url\(|@import|<script", drawn)
    body = drawn[drawn.index("<body>") : drawn.index("</html>")]
    assert [element.tag for element in ET.fromstring(body)] == ["h1", "p", "div", "h2", "p"]


def test_all_text_on_a_page_is_escaped() -> None:
    text = "<script>alert('x')</script>&\""
    parts = [card_row([Card(text, text)]), table([text], [[text]]), definition_list([(text, text)])]
    assert "<script" not in render_page(text, text, parts)
