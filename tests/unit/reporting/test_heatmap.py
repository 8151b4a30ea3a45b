"""Heat maps place, colour and label their cells, and escape all text."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from ktrdr.reporting.heatmap import MAX_OPACITY, MIN_OPACITY, Axis, Cell, ColourScale, heat_map


def drawn(cells, across=(1, 2, 3), down=(10, 20), title="", name="fast"):
    values = [cell.value for cell in cells.values() if cell.value is not None]
    text = heat_map(
        Axis(name, across),
        Axis("slow", down),
        cells,
        ColourScale.for_values(values),
        format_value=lambda value: f"{value:.1f}",
        title=title,
    )
    return text, ET.fromstring(text)


def test_cells_are_placed_by_their_values() -> None:
    cells = {(x, y): Cell(x * y / 10, f"{x} and {y}") for x in (1, 2, 3) for y in (10, 20)}
    _, tree = drawn(cells)
    places = {}
    for group in tree.iter("g"):
        box = group.find("rect")
        assert box is not None
        places[group.findtext("title")] = (float(box.attrib["x"]), float(box.attrib["y"]))
    assert len(places) == 6
    assert places["1 and 10"][0] == places["1 and 20"][0] < places["2 and 10"][0]
    assert places["1 and 10"][1] == places["3 and 10"][1] < places["1 and 20"][1]


def opacity(style: str) -> float:
    match = re.search(r"fill-opacity:([\d.]+)", style)
    assert match
    return float(match[1])


def test_values_on_both_sides_of_zero_are_blue_and_red_by_their_distance() -> None:
    colours = ColourScale.for_values([-1.0, 0.5, 2.0])
    assert "--red" in colours.fill_style(-1)
    assert "--blue" in colours.fill_style(0.5)
    one, two = opacity(colours.fill_style(1)), opacity(colours.fill_style(2))
    assert opacity(colours.fill_style(-1)) == one < two
    assert "--card" in colours.fill_style(0)


@pytest.mark.parametrize("sign", [1, -1])
def test_values_on_one_side_of_zero_use_the_whole_range_of_strengths(sign: int) -> None:
    colours = ColourScale.for_values([sign * 0.9, sign * 1.0, sign * 1.1])
    assert opacity(colours.fill_style(sign * 0.9)) == pytest.approx(MIN_OPACITY, abs=1e-3)
    assert opacity(colours.fill_style(sign * 1.1)) == pytest.approx(MAX_OPACITY, abs=1e-3)


def test_equal_values_and_no_values_have_a_colour() -> None:
    assert MIN_OPACITY < opacity(ColourScale.for_values([2.0, 2.0]).fill_style(2)) < MAX_OPACITY
    assert ColourScale.for_values([]).fill_style(0)


def test_a_cell_without_a_value_shows_its_text_and_a_missing_cell_a_dot() -> None:
    text, _ = drawn({(1, 10): Cell(None, "it failed", text="failed"), (2, 10): Cell(1, "good")})
    assert ">failed<" in text
    assert text.count(">·<") == 4


def test_a_marked_cell_is_framed_and_names_are_escaped() -> None:
    text, _ = drawn({(1, 10): Cell(1, "<b>", is_marked=True)}, title="a < b", name="<i>")
    assert "stroke:var(--ink)" in text
    assert "<b>" not in text
    assert "<i>" not in text


def test_many_columns_are_narrow_without_text_and_stay_within_the_page() -> None:
    across = tuple(range(200))
    text, tree = drawn({(x, 10): Cell(x, f"at {x}") for x in across}, across=across)
    box = tree.find("svg")
    assert box is not None
    assert float(box.attrib["viewBox"].split()[2]) <= 960
    assert ">199.0<" not in text
    assert "at 199" in text
