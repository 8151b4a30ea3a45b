"""Figures are written the way people read them; pages stand on their own."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from ktrdr.reporting.page import Card, cards, number, page, percent, section, table, tone_of


@pytest.mark.parametrize(
    ("value", "written"),
    [(None, "n/a"), (0.0, "0.00"), (1234567.891, "1,234,567.89"), (-2.5, "\u22122.50")],
)
def test_numbers_have_thousands_and_a_true_minus(value: float | None, written: str) -> None:
    assert number(value) == written


@pytest.mark.parametrize(
    ("value", "digits", "written"),
    [(None, 2, "n/a"), (0.5, 0, "50 %"), (0.123456, 2, "12.35 %"), (12.5, 1, "1,250.0 %")],
)
def test_fractions_are_written_as_percent(value: float | None, digits: int, written: str) -> None:
    assert percent(value, digits) == written


@pytest.mark.parametrize(("value", "tone"), [(1.0, "good"), (-1.0, "bad"), (0.0, ""), (None, "")])
def test_gains_are_green_losses_red_and_nothing_neither(value: float | None, tone: str) -> None:
    assert tone_of(value) == tone


def test_words_stand_left_and_figures_right() -> None:
    drawn = table(("name", "sum"), [("a", "1")])
    assert drawn.count("class=text") == 2
    assert re.search(r"<td class=text>a</td><td>1</td>", drawn)


def test_a_page_is_whole_and_loads_nothing() -> None:
    drawn = page("T", "S", [cards([Card("n", "v")]), section("H", "<p>x</p>")])
    assert drawn.startswith("<!doctype html>")
    assert drawn.count("<body>") == drawn.count("</body>") == 1
    assert not re.search(r"(src|href)=|url\(|@import|<script", drawn)
    body = drawn[drawn.index("<body>") : drawn.index("</html>")]
    assert [each.tag for each in ET.fromstring(body)] == ["h1", "p", "div", "h2", "p"]
