"""Rules are parsed, written and evaluated consistently, and invalid text never crashes."""

from __future__ import annotations

import contextlib
import math
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ktrdr.strategies.rule_parser import MAX_LENGTH, RuleSyntaxError, parse_rule
from ktrdr.strategies.rules import evaluate_condition, format_rule, referenced_names
from tests.unit.strategies.random_documents import conditions

NAMES = {"fast", "slow", "close", "open"}


def is_true(text: str, **values: float) -> bool:
    return bool(evaluate_condition(parse_rule(text, values), values))


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
def test_a_rule_is_evaluated_as_it_reads(text: str, expected: bool) -> None:
    assert is_true(text, fast=3, slow=2) is expected


@pytest.mark.parametrize("text", ["fast > slow", "not fast > slow", "slow > 1 or fast > slow"])
def test_a_rule_is_false_while_a_compared_value_is_unknown(text: str) -> None:
    assert not is_true(text, fast=math.nan, slow=2)


def test_arrays_are_compared_bar_by_bar_and_a_crossing_needs_the_previous_bar() -> None:
    fast, slow = np.array([1.0, 3, 3, 1, 2, np.nan, 3]), np.full(7, 2.0)

    def previous_bar(value: np.ndarray) -> np.ndarray:
        return np.concatenate(([np.nan], value[:-1]))

    for text, expected in (
        ("crosses_above(fast, slow)", [0, 1, 0, 0, 0, 0, 0]),
        ("crosses_below(fast, slow)", [0, 0, 0, 1, 0, 0, 0]),
        ("not fast > slow", [1, 0, 0, 1, 1, 0, 0]),
    ):
        truth = evaluate_condition(
            parse_rule(text, NAMES), {"fast": fast, "slow": slow}, previous_bar
        )
        assert truth.tolist()[: len(expected) - 1] == [bool(value) for value in expected][:-1], text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is not a rule"),
        ("fast >", "it is not a rule"),
        ("fast", "`fast` is not a condition such as `close > 100`"),
        ("fast > fsat", "fsat is not defined; did you mean fast?"),
        ("fast and slow > 1", "`fast` is not a condition"),
        ("(fast > 1) + 1 > 2", "`fast > 1` is not a value"),
        ("fast > always", "`always` is not a value"),
        (
            "crosses_abov(fast, slow)",
            "`crosses_abov` is not a function; did you mean crosses_above?",
        ),
        ("crosses_above(fast)", "crosses_above needs two values, such as"),
        ("fast > 1e999", "it contains a number that is too large"),
        ("fast is slow", "unknown comparison"),
        ("fast ** 2 > 1", "`fast ** 2` is not a value"),
        ("fast > 1if", "`1if` is not allowed in a rule"),
        ("'a' > fast", "`'a' > fast` is not allowed in a rule"),
        ("__import__('os')", "is not allowed in a rule"),
        ("fast.real > 1", "is not allowed in a rule"),
        ("exec(fast) > 1", "`exec(fast)` is not a value"),
        ("fast if slow else open > 1", "is not a condition"),
        ("(" * 230 + "fast > 1" + ")" * 230, "nested"),
        ("not " * 100 + "fast > 1", "it is nested too deeply"),
        ("-" * 100 + "fast > 1", "it is nested too deeply"),
        ("fast > 1 or " * 60 + "fast > 1", f"it is longer than {MAX_LENGTH} characters"),
    ],
)
def test_an_invalid_rule_is_rejected_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(RuleSyntaxError) as caught:
        parse_rule(text, NAMES)
    assert reason in str(caught.value)


@settings(deadline=None)
@given(st.one_of(st.text(), st.text("fastlow ()<>=!+-*/,.0123456789eE\n_ANDnotrifis")))
def test_any_text_is_a_rule_or_is_rejected_with_a_reason(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(RuleSyntaxError):
            assert referenced_names(parse_rule(text, NAMES)) <= NAMES


@settings(deadline=None)
@given(conditions(tuple(sorted(NAMES))))
def test_the_normal_form_of_a_rule_parses_to_the_same_rule(rule) -> None:
    text = format_rule(rule)
    assume(len(text) <= MAX_LENGTH)
    parsed = parse_rule(text, NAMES)
    assert parsed == rule
    assert format_rule(parsed) == text


@settings(deadline=None)
@given(conditions(tuple(sorted(NAMES))), st.lists(st.floats(0.5, 4), min_size=4, max_size=4))
def test_numbers_and_arrays_of_them_agree(rule, values: list[float]) -> None:
    numbers = dict(zip(sorted(NAMES), values, strict=True))
    arrays = {name: np.array([value, value]) for name, value in numbers.items()}
    alone = evaluate_condition(rule, numbers)
    with np.errstate(all="ignore"):
        together = evaluate_condition(rule, arrays)
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
def test_division_by_zero_follows_floating_point_and_raises_no_error(
    rule: str, truth: bool
) -> None:
    assert is_true(rule, fast=1, slow=0) is truth
