"""A heat map: every cell in its place, told apart by its shade, and safe whatever it is called."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from ktrdr.reporting.heatmap import FAINTEST, STRONGEST, Axis, Cell, Shades, heat_map


def drawn(cells, across=(1, 2, 3), down=(10, 20), title="", name="fast"):
    values = [cell.value for cell in cells.values() if cell.value is not None]
    text = heat_map(
        Axis(name, across),
        Axis("slow", down),
        cells,
        Shades.over(values),
        form=lambda value: f"{value:.1f}",
        title=title,
    )
    return text, ET.fromstring(text)


def test_every_cell_stands_where_its_values_meet() -> None:
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
    found = re.search(r"fill-opacity:([\d.]+)", style)
    assert found
    return float(found[1])


def test_figures_on_both_sides_of_zero_are_blue_and_red_and_as_strong_as_they_are_far() -> None:
    shades = Shades.over([-1.0, 0.5, 2.0])
    assert "--red" in shades.style(-1)
    assert "--blue" in shades.style(0.5)
    assert opacity(shades.style(-1)) == opacity(shades.style(1)) < opacity(shades.style(2))
    assert "--card" in shades.style(0)


@pytest.mark.parametrize("sign", [1, -1])
def test_figures_on_one_side_of_zero_use_the_whole_range(sign: int) -> None:
    shades = Shades.over([sign * 0.9, sign * 1.0, sign * 1.1])
    assert opacity(shades.style(sign * 0.9)) == pytest.approx(FAINTEST, abs=1e-3)
    assert opacity(shades.style(sign * 1.1)) == pytest.approx(STRONGEST, abs=1e-3)


def test_equal_figures_and_none_at_all_have_a_shade() -> None:
    assert FAINTEST < opacity(Shades.over([2.0, 2.0]).style(2)) < STRONGEST
    assert Shades.over([]).style(0)


def test_a_place_without_a_figure_says_why_and_one_without_a_try_is_a_dot() -> None:
    text, _ = drawn({(1, 10): Cell(None, "it failed", text="failed"), (2, 10): Cell(1, "good")})
    assert ">failed<" in text
    assert text.count(">·<") == 4


def test_the_best_is_framed_and_names_cannot_break_out() -> None:
    text, _ = drawn({(1, 10): Cell(1, "<b>", marked=True)}, title="a < b", name="<i>")
    assert "stroke:var(--ink)" in text
    assert "<b>" not in text
    assert "<i>" not in text


def test_many_columns_are_narrow_without_figures_and_stay_within_the_page() -> None:
    across = tuple(range(200))
    text, tree = drawn({(x, 10): Cell(x, f"at {x}") for x in across}, across=across)
    box = tree.find("svg")
    assert box is not None
    assert float(box.attrib["viewBox"].split()[2]) <= 960
    assert ">199.0<" not in text
    assert "at 199" in text
