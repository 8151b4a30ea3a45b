"""Strategy documents are read, or rejected with all errors and their lines."""

from __future__ import annotations

from importlib.resources import files

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.errors import InvalidParameters
from ktrdr.strategies.document import Component, ComponentTemplate, ParameterReference, TradingCosts
from ktrdr.strategies.document_file import MAX_BYTES, read_feature_set, read_strategy
from ktrdr.strategies.rules import format_rule

GOOD = """\
name: mine
description: >
  Follows
  the trend.
parameters:
  fast: {default: [5, 10], minimum: 1, maximum: 50, integer: true}
  gap: {default: 0.01, minimum: 0, maximum: 1}
constraint: fast * gap < 1
indicators:
  average: {kind: sma, window: fast}
  loudness: {kind: ema, window: 10, of: volume}
entry: close > average * (1 + gap)
exit: close < average or volume < loudness / 10
costs: {commission: 0.001, slippage: 0}
sizing: {volatility_target: {annual: 0.1}}
"""
BUILT_IN = files("ktrdr.strategies") / "builtin"


def test_a_document_is_read_completely() -> None:
    strategy = read_strategy(GOOD, "mine.yml")
    assert (strategy.name, strategy.description) == ("mine", "Follows the trend.")
    assert strategy.parameters["fast"].defaults == (5, 10)
    assert strategy.parameters["fast"].is_integer
    assert strategy.parameters["gap"].defaults == (0.01,)
    assert strategy.constraint is not None
    assert format_rule(strategy.constraint) == "((fast * gap) < 1.0)"
    average = strategy.indicators["average"]
    assert average == ComponentTemplate(
        "sma", (("window", ParameterReference("fast")), ("of", "close"))
    )
    assert average.with_values({"fast": 7}) == Component("sma", (("window", 7), ("of", "close")))
    assert strategy.costs == TradingCosts(0.001, 0)
    expected = {"annual": 0.1, "window": 20, "maximum": 1.0, "band": 0.1}
    assert dict(strategy.sizing.arguments) == expected
    assert strategy.source_text["entry"] == "close > average * (1 + gap)"


def test_optional_keys_have_defaults() -> None:
    strategy = read_strategy("name: x\nentry: always\nexit: never\n", "x.yml")
    assert strategy.sizing == ComponentTemplate("all_in")
    assert strategy.costs == TradingCosts(0, 0)
    assert not strategy.parameters


def test_the_hash_changes_with_the_behaviour_and_not_with_the_spelling() -> None:
    mine = read_strategy(GOOD, "mine.yml").content_hash
    spelt = (
        GOOD.replace("(1 + gap)", "( 1+gap )")
        .replace("0.01,", "0.0100,")
        .replace("the trend", "prices")
    )
    assert read_strategy(f"# a comment\n{spelt}", "mine.yml").content_hash == mine
    for old, new in (
        ("close > average", "close >= average"),
        ("slippage: 0", "slippage: 0.001"),
        ("window: 10", "window: 11"),
        ("maximum: 50", "maximum: 51"),
        ("[5, 10]", "[5, 11]"),
        ("annual: 0.1", "annual: 0.2"),
    ):
        assert read_strategy(GOOD.replace(old, new), "x").content_hash != mine, old


WRONG = [
    (
        "name: mine",
        "name: a/b",
        "1: name may contain only letters, digits, dot, dash and underscore",
    ),
    (
        "name: mine",
        'name: ""',
        "1: name may contain only letters, digits, dot, dash and underscore",
    ),
    ("name: mine", "name: 3", "1: name must be text, not a number"),
    ("name: mine\n", "", "1: the document is missing name"),
    (
        "entry: close > average * (1 + gap)\n",
        "entery: always\n",
        "1: the document is missing entry",
    ),
    ("entry: close > average * (1 + gap)\n", "entery: always\n", "12: entery is not a known key"),
    ("minimum: 1,", "minimun: 1,", "6: parameters.fast.minimun is not a known key; did you mean"),
    ("minimum: 1,", "minimum: 60,", "6: parameters.fast.minimum 60 is above maximum 50"),
    ("[5, 10]", "[5, 51]", "6: parameters.fast.default.1 must be from 1 to 50, not 51"),
    ("[5, 10]", "[]", "6: parameters.fast.default has 0 values"),
    ("[5, 10]", "5.5", "6: parameters.fast.default must be a whole number, not 5.5"),
    ("[5, 10]", "yes", "6: parameters.fast.default must be a whole number, not true or false"),
    ("integer: true", "integer: maybe", "6: parameters.fast.integer must be true or false"),
    ("0.01", ".nan", "7: parameters.gap.default must be from 0 to 1, not nan"),
    ("  gap:", "  close:", "7: parameters.close is a reserved word: choose another name"),
    ("  gap:", "  lambda:", "7: parameters.lambda is a reserved word: choose another name"),
    ("  gap:", "  Gap:", "7: parameters.Gap must begin with a lowercase letter"),
    (
        "constraint: fast * gap",
        "constraint: fast * close",
        "8: constraint is invalid: close is not",
    ),
    ("  loudness:", "  gap:", "11: indicators.gap is also the name of a parameter"),
    ("kind: sma", "kind: smaa", "volume_z, model, not smaa; did you mean sma?"),
    ("kind: sma, ", "", "10: indicators.average.kind must be one of sma, ema"),
    (
        "window: fast",
        "window: gap",
        "10: indicators.average.window must be a whole number, and parameter gap is not",
    ),
    ("window: fast", "window: 0", "10: indicators.average.window must be from 1 to 5000, not 0"),
    (
        "window: fast",
        "window: fsat",
        "must be a number or a parameter, and there is no parameter fsat; did",
    ),
    ("maximum: 50", "maximum: 9999", "but parameter fast may be from 1 to 9999"),
    (
        "of: volume",
        "of: volumes",
        "11: indicators.loudness.of must be one of open, high, low, close",
    ),
    ("window: 10, ", "", "11: indicators.loudness is missing window"),
    ("close > average", "close > averge", "12: entry is invalid: averge is not defined; did"),
    ("close < average", "close", "13: exit is invalid: `close` is not a condition"),
    ("commission: 0.001", "commission: 0.2", "14: costs.commission must be from 0 to 0.0999"),
    (
        "{volatility_target: {annual: 0.1}}",
        "half",
        "15: sizing must be one of all_in, fraction, volatility_target, not half",
    ),
    (
        "{volatility_target: {annual: 0.1}}",
        "{fraction: 2}",
        "15: sizing.fraction must be from 0.001",
    ),
    ("annual: 0.1", "window: 5", "15: sizing.volatility_target is missing annual"),
    ("* (1 + gap)", "", "7: parameters.gap is not used by any indicator, rule or sizing"),
    ("name: mine", "name: [", "this is not YAML"),
    (
        "name: mine",
        "name: &a mine\nx: *a",
        "2: *a is an alias, which is not allowed: write the value out",
    ),
    ("name: mine", "name: mine\nname: mine", "2: name is defined twice (first at mine.yml:1)"),
    ("name: mine", 'name: !!int ""', "1: '' does not fit its tag"),
    ("name: mine", "? [a]\n: b\nname: mine", "a key must be text"),
    ("0.01", "9" * 5000, "7: "),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG, ids=[case[2][:40] for case in WRONG])
def test_an_error_is_reported_with_its_line(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(InvalidParameters) as caught:
        read_strategy(GOOD.replace(old, new, 1), "mine.yml")
    assert message in caught.value.message
    assert caught.value.message.startswith("mine.yml:")
    assert "docs/strategies.md" in str(caught.value.hint)


def test_all_errors_are_reported_together_in_the_order_of_their_lines() -> None:
    text = GOOD.replace("[5, 10]", "99").replace("kind: sma", "kind: x").replace("0.001", "7")
    with pytest.raises(InvalidParameters) as caught:
        read_strategy(text, "mine.yml")
    lines = [part.split(":")[1] for part in caught.value.message.split("; mine.yml")]
    assert [int(line) for line in lines] == [6, 10, 14]


def test_a_document_larger_than_64_kb_is_rejected() -> None:
    with pytest.raises(InvalidParameters, match="is larger than 64 KB"):
        read_strategy("#" * (MAX_BYTES + 1), "big.yml")


def test_aliases_that_would_expand_beyond_the_memory_are_rejected() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{new}: &{new} [*{old}, *{old}]\n"
        for old, new in zip("abcdefghij", "bcdefghijk", strict=True)
    )
    with pytest.raises(InvalidParameters, match=r"2: \*a is an alias"):
        read_strategy(bomb, "bomb.yml")


def rejection(read, text: str) -> str:
    """Return the error in the text, or the name of the file alone if the text is valid."""
    try:
        read(text, "any.yml")
    except InvalidParameters as exc:
        return exc.message
    return "any.yml"


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "kind",
                    "window",
                    "of",
                    "default",
                    "minimum",
                    "maximum",
                    "integer",
                    "fraction",
                    "a",
                ]
            )
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
GOOD_DOCUMENT = yaml.safe_load(GOOD)
KEYS = st.sampled_from(list(GOOD_DOCUMENT))


@settings(deadline=None)
@given(st.dictionaries(KEYS, ODD))
def test_odd_values_are_reported_and_never_crash(changes) -> None:
    text = yaml.safe_dump({**GOOD_DOCUMENT, **changes}, allow_unicode=True)
    for read in (read_strategy, read_feature_set):
        message = rejection(read, text)
        assert message.startswith("any.yml")
        assert message.isprintable()


@settings(deadline=None)
@given(st.one_of(st.text(), st.text("name:xy{}[]&*!|>-# '\"\n\t%@,?0123456789.")))
def test_any_text_is_a_strategy_or_is_rejected_with_a_reason(text: str) -> None:
    assert rejection(read_strategy, text).startswith("any.yml")


@settings(deadline=None)
@given(st.integers(0, len(GOOD)), st.integers(0, 20), st.text(max_size=8))
def test_a_damaged_document_is_a_strategy_or_is_rejected_with_a_reason(
    at: int, cut: int, added: str
) -> None:
    text = GOOD[:at] + added + GOOD[at + cut :]
    assert rejection(read_strategy, text).startswith("any.yml")
