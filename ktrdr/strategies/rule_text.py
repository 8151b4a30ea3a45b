"""Reads rules such as ``fast > slow and close / fast - 1 < 0.05``.

Python's own parser takes the text apart; nothing is ever run, and what is not named here is
refused.
"""

from __future__ import annotations

import ast
import keyword
import math
import re
from collections.abc import Collection
from itertools import pairwise
from typing import Final

from ktrdr.errors import did_you_mean
from ktrdr.strategies.rules import (
    CONSTANTS,
    CROSSINGS,
    Arithmetic,
    Combined,
    Comparison,
    Condition,
    Constant,
    Crossing,
    Figure,
    Named,
    Negative,
    Not,
    Number,
    names_of,
)

MAX_LENGTH: Final = 500
MAX_DEPTH: Final = 20
PRICES: Final = ("open", "high", "low", "close", "volume")
# Words that no parameter and no indicator may be called.
RESERVED: Final = frozenset({*PRICES, *CONSTANTS, *CROSSINGS, *keyword.kwlist})

# Everything that Python would warn of or read in a way of its own stays outside.
_TOKEN: Final = re.compile(
    r"\s+|\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?(?![\w.])|[A-Za-z_]\w*|[<>]=?|[=!]=|[-+*/(),]", re.ASCII
)
_SIGNS: Final[dict[type[ast.AST], str]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}


class RuleFault(ValueError):
    """Why a text is no rule, as the rest of a sentence."""


def read_rule(text: str, names: Collection[str]) -> Condition:
    """The rule that ``text`` says.

    Args:
        text: What was written, 500 characters at most.
        names: What it may speak of.

    Raises:
        RuleFault: It cannot be read, speaks of something unknown, or is a figure and no condition.
    """
    rule = _condition(_parsed(text), 0)
    for name in sorted(names_of(rule) - set(names)):
        raise RuleFault(f"{name} names nothing here{did_you_mean(name, names)}")
    return rule


def _parsed(text: str) -> ast.expr:
    if len(text) > MAX_LENGTH:
        raise RuleFault(f"it is longer than {MAX_LENGTH} characters")
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise RuleFault(f"{_shown(text[at:])} cannot stand in a rule")
        at = token.end()
    try:
        # One line, whatever the file made of it: a rule has no indentation to get wrong.
        return ast.parse(" ".join(text.split()), mode="eval").body
    except SyntaxError as exc:
        place = f" near character {exc.offset}" if exc.offset else ""
        raise RuleFault(f"it is not a rule{place}: {exc.msg}") from exc
    except (MemoryError, RecursionError) as exc:
        raise RuleFault("it is nested too deeply") from exc


def _condition(node: ast.expr, depth: int) -> Condition:
    depth = _deeper(depth)
    match node:
        case ast.BoolOp(op=op, values=values):
            parts = tuple(_condition(value, depth) for value in values)
            return Combined("and" if isinstance(op, ast.And) else "or", parts)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return Not(_condition(operand, depth))
        case ast.Compare():
            return _comparison(node, depth)
        case ast.Call():
            return _crossing(node, depth)
        case ast.Name(id=name) if name in CONSTANTS:
            return Constant(CONSTANTS[name])
    raise RuleFault(f"{_source(node)} is no condition, such as `close > 100`")


def _comparison(node: ast.Compare, depth: int) -> Condition:
    """``a < b < c`` is ``a < b and b < c``."""
    sides = [_figure(side, depth) for side in (node.left, *node.comparators)]
    signs = [_SIGNS.get(type(op)) for op in node.ops]
    parts = []
    for sign, (left, right) in zip(signs, pairwise(sides), strict=True):
        if sign is None:
            raise RuleFault("figures are compared by < <= > >= == !=")
        parts.append(Comparison(sign, left, right))
    return parts[0] if len(parts) == 1 else Combined("and", tuple(parts))


def _crossing(node: ast.Call, depth: int) -> Condition:
    match node:
        case ast.Call(func=ast.Name(id=word), args=[left, right], keywords=[]) if word in CROSSINGS:
            return Crossing(CROSSINGS[word], _figure(left, depth), _figure(right, depth))
        case ast.Call(func=ast.Name(id=word)) if word in CROSSINGS:
            raise RuleFault(f"{word} takes two figures, such as {word}(close, 100)")
    word = ast.unparse(node.func)
    raise RuleFault(f"{_shown(word)} is no function{did_you_mean(word, CROSSINGS)}")


def _figure(node: ast.expr, depth: int) -> Figure:
    depth = _deeper(depth)
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _number(value)
        case ast.Name(id=name) if name not in CONSTANTS:
            return Named(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return Negative(_figure(operand, depth))
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _SIGNS:
            return Arithmetic(_SIGNS[type(op)], _figure(left, depth), _figure(right, depth))
    raise RuleFault(f"{_source(node)} is no figure, such as `close` or `2 * fast`")


def _number(value: float) -> Number:
    number = float(value) if abs(value) < 1e300 else math.inf
    if math.isinf(number):
        raise RuleFault("it holds a number that is too large")
    return Number(number)


def _deeper(depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise RuleFault("it is nested too deeply")
    return depth + 1


def _source(node: ast.AST) -> str:
    return _shown(ast.unparse(node))


def _shown(text: str) -> str:
    return f"`{text if len(text) <= 30 else text[:29] + '…'}`"
