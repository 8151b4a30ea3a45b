"""Rules: what they say is what is computed, whoever writes them, and whatever they write."""

from __future__ import annotations

import contextlib
import math
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ktrdr.strategies.rule_text import MAX_LENGTH, RuleFault, read_rule
from ktrdr.strategies.rules import names_of, text_of, truth_of
from tests.unit.strategies.random_documents import conditions

NAMES = {"fast", "slow", "close", "open"}


def is_true(text: str, **values: float) -> bool:
    return bool(truth_of(read_rule(text, values), values))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fast > slow", True),
        ("fast < slow", False),
        ("fast >= 3 and slow <= 2", True),
        ("fast == 3 and slow != 2", False),
        ("fast < slow or slow * 2 > fast", True),
        ("not fast > slow", False),
        ("1 < slow < fast < 4", True),
        ("1 < slow < fast < 3", False),
        ("-fast + 1 == -slow", True),
        ("fast - slow - 1 == 0", True),
        ("fast / slow == 1.5", True),
        ("2 * (fast + 1) == 8e0", True),
        ("always", True),
        ("never or not never", True),
        ("fast > slow\n  and always", True),
    ],
)
def test_a_rule_means_what_it_reads_as(text: str, expected: bool) -> None:
    assert is_true(text, fast=3, slow=2) is expected


@pytest.mark.parametrize("text", ["fast > slow", "not fast > slow", "slow > 1 or fast > slow"])
def test_a_rule_is_false_while_a_figure_in_it_is_unknown(text: str) -> None:
    assert not is_true(text, fast=math.nan, slow=2)


def test_arrays_are_compared_bar_by_bar_and_a_crossing_needs_the_bar_before() -> None:
    fast, slow = np.array([1.0, 3, 3, 1, 2, np.nan, 3]), np.full(7, 2.0)

    def before(value: np.ndarray) -> np.ndarray:
        return np.concatenate(([np.nan], value[:-1]))

    for text, expected in (
        ("crosses_above(fast, slow)", [0, 1, 0, 0, 0, 0, 0]),
        ("crosses_below(fast, slow)", [0, 0, 0, 1, 0, 0, 0]),
        ("not fast > slow", [1, 0, 0, 1, 1, 0, 0]),
    ):
        found = truth_of(read_rule(text, NAMES), {"fast": fast, "slow": slow}, before)
        assert found.tolist()[: len(expected) - 1] == [bool(each) for each in expected][:-1], text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is not a rule"),
        ("fast >", "it is not a rule"),
        ("fast", "`fast` is no condition, such as `close > 100`"),
        ("fast > fsat", "fsat names nothing here; did you mean fast?"),
        ("fast and slow > 1", "`fast` is no condition"),
        ("(fast > 1) + 1 > 2", "`fast > 1` is no figure"),
        ("fast > always", "`always` is no figure"),
        ("crosses_abov(fast, slow)", "`crosses_abov` is no function; did you mean crosses_above?"),
        ("crosses_above(fast)", "crosses_above takes two figures, such as"),
        ("fast > 1e999", "it holds a number that is too large"),
        ("fast is slow", "figures are compared by"),
        ("fast ** 2 > 1", "`fast ** 2` is no figure"),
        ("fast > 1if", "`1if` cannot stand in a rule"),
        ("'a' > fast", "`'a' > fast` cannot stand in a rule"),
        ("__import__('os')", "cannot stand in a rule"),
        ("fast.real > 1", "cannot stand in a rule"),
        ("exec(fast) > 1", "`exec(fast)` is no figure"),
        ("fast if slow else open > 1", "is no condition"),
        ("(" * 230 + "fast > 1" + ")" * 230, "nested"),
        ("not " * 100 + "fast > 1", "it is nested too deeply"),
        ("-" * 100 + "fast > 1", "it is nested too deeply"),
        ("fast > 1 or " * 60 + "fast > 1", f"it is longer than {MAX_LENGTH} characters"),
    ],
)
def test_what_is_no_rule_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(RuleFault) as caught:
        read_rule(text, NAMES)
    assert reason in str(caught.value)


@settings(deadline=None)
@given(st.one_of(st.text(), st.text("fastlow ()<>=!+-*/,.0123456789eE\n_ANDnotrifis")))
def test_any_text_is_a_rule_or_has_a_reason(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(RuleFault):
            assert names_of(read_rule(text, NAMES)) <= NAMES


@settings(deadline=None)
@given(conditions(NAMES))
def test_the_normal_form_of_a_rule_reads_as_the_same_rule(rule) -> None:
    text = text_of(rule)
    assume(len(text) <= MAX_LENGTH)
    again = read_rule(text, NAMES)
    assert again == rule
    assert text_of(again) == text


@settings(deadline=None)
@given(conditions(NAMES), st.lists(st.floats(0.5, 4), min_size=4, max_size=4))
def test_numbers_and_arrays_of_them_agree(rule, values: list[float]) -> None:
    numbers = dict(zip(sorted(NAMES), values, strict=True))
    arrays = {name: np.array([value, value]) for name, value in numbers.items()}
    alone = truth_of(rule, numbers)
    with np.errstate(all="ignore"):
        together = truth_of(rule, arrays)
    assert np.all(np.broadcast_to(together, 2) == bool(alone))


@pytest.mark.parametrize(
    ("rule", "truth"),
    [
        ("0 / 0 > 1", False),
        ("0 / 0 < 1", False),
        ("fast / slow > 5", True),
        ("-fast / slow < 5", True),
        ("1 / (slow - slow) > 5", True),
    ],
)
def test_dividing_by_nothing_is_as_floating_point_has_it_and_no_error(
    rule: str, truth: bool
) -> None:
    assert is_true(rule, fast=1, slow=0) is truth
