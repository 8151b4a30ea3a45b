"""Random strategies: rules, indicators and sizing drawn from all that a document may say."""

from __future__ import annotations

from hypothesis import strategies as st

from ktrdr.strategies.document import Costs, Strategy, Template
from ktrdr.strategies.kinds import INDICATORS, NumberArgument
from ktrdr.strategies.rule_text import PRICES
from ktrdr.strategies.rules import (
    Arithmetic,
    Combined,
    Comparison,
    Constant,
    Crossing,
    Named,
    Negative,
    Not,
    Number,
)

COMPUTED = [kind for kind in INDICATORS.values() if kind.name != "model"]


def templates(longest: int = 12) -> st.SearchStrategy[Template]:
    def of(kind):
        given = [
            st.integers(int(argument.lowest), longest)
            if isinstance(argument, NumberArgument)
            else st.sampled_from(argument.words)
            for argument in kind.arguments
        ]
        names = [argument.name for argument in kind.arguments]
        return st.tuples(*given).map(
            lambda values: Template(kind.name, tuple(zip(names, values, strict=True)))
        )

    return st.sampled_from(COMPUTED).flatmap(of)


def figures(names):
    leaves = st.one_of(
        st.sampled_from(sorted(names)).map(Named),
        st.floats(0, 1e6, allow_nan=False).map(Number),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            inner.map(Negative),
            st.builds(Arithmetic, st.sampled_from("+-*/"), inner, inner),
        ),
        max_leaves=4,
    )


def conditions(names):
    figure = figures(names)
    leaves = st.one_of(
        st.builds(Comparison, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), figure, figure),
        st.builds(Crossing, st.booleans(), figure, figure),
        st.booleans().map(Constant),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            inner.map(Not),
            st.builds(
                Combined,
                st.sampled_from(["and", "or"]),
                st.lists(inner, min_size=2, max_size=3).map(tuple),
            ),
        ),
        max_leaves=4,
    )


sizings = st.one_of(
    st.just(Template("all_in")),
    st.floats(0.001, 1).map(lambda share: Template("fraction", (("fraction", share),))),
    st.builds(
        lambda annual, window, maximum, band: Template(
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
    names = {*PRICES, *indicators}
    return Strategy(
        name="random",
        description="",
        parameters={},
        constraint=None,
        indicators=indicators,
        entry=draw(conditions(names)),
        exit=draw(conditions(names)),
        costs=Costs(0.001, 0.0005),
        sizing=draw(sizings),
        shown={},
    )
