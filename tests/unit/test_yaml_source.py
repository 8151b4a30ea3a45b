"""YAML is read with the lines of its keys and items."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.yaml_source import YamlFault, kind_of, read_yaml

TEXT = """\
a:
  b: [1, 2,
      3]
  c: {d: x}

N: yes
"""


def test_keys_and_items_are_found_on_their_lines() -> None:
    document = read_yaml(TEXT, "x.yml")
    assert document.data == {"a": {"b": [1, 2, 3], "c": {"d": "x"}}, "N": True}
    assert document.line(("a", "b", "2")) == 3
    assert document.line(("a", "c", "d")) == 4
    assert document.line(("N",)) == 6


def test_a_missing_value_has_the_line_of_the_nearest_value_around_it() -> None:
    document = read_yaml(TEXT, "x.yml")
    assert document.line(("a", "c", "missing", "deeper")) == 4
    assert document.line(("nothing",)) == 1


@pytest.mark.parametrize("text", ["", "# a comment\n", "---\n"])
def test_an_empty_text_is_an_empty_document(text: str) -> None:
    assert read_yaml(text, "x.yml").data in ({}, None)


def test_aliases_are_rejected_unless_they_are_allowed() -> None:
    text = "a: &x [1]\nb: *x\n"
    assert read_yaml(text, "x.yml").data == {"a": [1], "b": [1]}
    with pytest.raises(YamlFault, match=r"line 2: \*x is an alias"):
        read_yaml(text, "x.yml", aliases=False)


@pytest.mark.parametrize("text", ["a: " + "[" * 1000, "a: &x [*x]"])
def test_endless_nesting_is_rejected(text: str) -> None:
    with pytest.raises(YamlFault):
        read_yaml(text, "x.yml")


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "1:" * 400 + "1.5",
        'a: !!int ""',
        "a: !!bool x",
        "a: !!timestamp x",
        "a: !!binary é",
        "a: !!x y",
        "a: 2020-13-45",
        "a: " + "9" * 5000,
    ],
)
def test_an_invalid_value_is_reported_with_its_line(text: str) -> None:
    with pytest.raises(YamlFault) as caught:
        read_yaml(f"x: 1\n{text}\n", "x.yml")
    assert caught.value.line == 2


@pytest.mark.parametrize(
    "text", [r'a: "\UFFFFFFFF"', r'a: "\U00110000"', f"%YAML 1.{'9' * 5000}\n---\n"]
)
def test_a_number_that_crashes_pyyaml_is_rejected(text: str) -> None:
    with pytest.raises(YamlFault, match="a number that is too large"):
        read_yaml(text, "x.yml")


@given(st.one_of(st.text(), st.text("ab:{}[]&*!|>-#?%@ '\"\n\t0123456789.")), st.booleans())
def test_any_text_is_yaml_or_is_rejected_with_a_line_and_a_reason(text: str, aliases: bool) -> None:
    with contextlib.suppress(YamlFault):
        document = read_yaml(text, "x.yml", aliases=aliases)
        assert all(line >= 1 for line in document.lines.values())


def test_types_of_values_are_described_in_words() -> None:
    values: list[Any] = [None, True, 1, 1.5, "x", [], {}]
    names = [kind_of(value) for value in values]
    assert names == ["empty", "true or false", "a number", "a number", "text", "a list", "keys"]
