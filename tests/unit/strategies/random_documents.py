"""Random strategies, with rules, indicators and sizing of all kinds that a document allows."""

from __future__ import annotations

from functools import cache

from hypothesis import strategies as st

from ktrdr.strategies.component_kinds import INDICATORS, NumberArgument
from ktrdr.strategies.document import ComponentTemplate, Strategy, TradingCosts
from ktrdr.strategies.rule_parser import PRICES
from ktrdr.strategies.rules import (
    Arithmetic,
    BooleanConstant,
    BooleanOperation,
    Comparison,
    Crossing,
    Not,
    Number,
    UnaryMinus,
    Variable,
)

COMPUTED = [kind for kind in INDICATORS.values() if kind.name != "model"]


@cache
def templates(longest: int = 12) -> st.SearchStrategy[ComponentTemplate]:
    def of_kind(kind):
        arguments = [
            st.integers(int(argument.minimum), longest)
            if isinstance(argument, NumberArgument)
            else st.sampled_from(argument.choices)
            for argument in kind.arguments
        ]
        names = [argument.name for argument in kind.arguments]
        return st.tuples(*arguments).map(
            lambda values: ComponentTemplate(kind.name, tuple(zip(names, values, strict=True)))
        )

    return st.sampled_from(COMPUTED).flatmap(of_kind)


@cache
def values(names: tuple[str, ...]):
    leaves = st.one_of(
        st.sampled_from(names).map(Variable),
        st.floats(0, 1e6, allow_nan=False).map(Number),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            inner.map(UnaryMinus),
            st.builds(Arithmetic, st.sampled_from("+-*/"), inner, inner),
        ),
        max_leaves=4,
    )


@cache
def conditions(names: tuple[str, ...]):
    value = values(names)
    leaves = st.one_of(
        st.builds(Comparison, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), value, value),
        st.builds(Crossing, st.booleans(), value, value),
        st.booleans().map(BooleanConstant),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            inner.map(Not),
            st.builds(
                BooleanOperation,
                st.sampled_from(["and", "or"]),
                st.lists(inner, min_size=2, max_size=3).map(tuple),
            ),
        ),
        max_leaves=4,
    )


sizings = st.one_of(
    st.just(ComponentTemplate("all_in")),
    st.floats(0.001, 1).map(lambda share: ComponentTemplate("fraction", (("fraction", share),))),
    st.builds(
        lambda annual, window, maximum, band: ComponentTemplate(
            "volatility_target",
            (("annual", annual), ("window", window), ("maximum", maximum), ("band", band)),
        ),
        st.floats(0.01, 2),
        st.integers(2, 12),
        st.floats(0.01, 1),
        st.floats(0, 0.5),
    ),
)


@st.composite
def strategies(draw) -> Strategy:
    indicators = {f"i{n}": draw(templates()) for n in range(draw(st.integers(1, 3)))}
    names = (*PRICES, *indicators)
    return Strategy(
        name="random",
        description="",
        parameters={},
        constraint=None,
        indicators=indicators,
        entry=draw(conditions(names)),
        exit=draw(conditions(names)),
        costs=TradingCosts(0.001, 0.0005),
        sizing=draw(sizings),
        source_text={},
    )
