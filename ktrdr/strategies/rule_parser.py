"""Parser of rules such as ``fast > slow and close / fast - 1 < 0.05``.

Python's own parser splits the text. Nothing is ever executed, and all syntax that is not listed
here is rejected.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Collection
from itertools import pairwise
from typing import Final

from ktrdr.errors import did_you_mean
from ktrdr.strategies.rules import (
    CONSTANTS,
    CROSSINGS,
    Arithmetic,
    BooleanConstant,
    BooleanOperation,
    Comparison,
    Condition,
    Crossing,
    Not,
    Number,
    NumericExpression,
    UnaryMinus,
    Variable,
    referenced_names,
)

MAX_LENGTH: Final = 500
MAX_DEPTH: Final = 20
PRICES: Final = ("open", "high", "low", "close", "volume")
# Names that parameters and indicators must not have.
RESERVED: Final = frozenset({*PRICES, *CONSTANTS, *CROSSINGS, *keyword.kwlist})

# Excludes all text that Python would warn about or read in its own way.
_TOKEN: Final = re.compile(
    r"\s+|\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?(?![\w.])|[A-Za-z_]\w*|[<>]=?|[=!]=|[-+*/(),]", re.ASCII
)
_SYMBOLS: Final[dict[type[ast.AST], str]] = {
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


class RuleSyntaxError(ValueError):
    """Error in a rule. The message is the rest of a sentence about the rule."""


def parse_rule(text: str, names: Collection[str]) -> Condition:
    """Return the condition that the text expresses.

    Args:
        text: Text of the rule, at most 500 characters.
        names: Names that the rule may use.

    Raises:
        RuleSyntaxError: The text is not a rule, uses an unknown name, or is a value and not a
            condition.
    """
    rule = _condition(_parse(text), 0)
    for name in sorted(referenced_names(rule) - set(names)):
        raise RuleSyntaxError(f"{name} is not defined{did_you_mean(name, names)}")
    return rule


def _parse(text: str) -> ast.expr:
    if len(text) > MAX_LENGTH:
        raise RuleSyntaxError(f"it is longer than {MAX_LENGTH} characters")
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise RuleSyntaxError(f"{_quote(text[position:])} is not allowed in a rule")
        position = token.end()
    try:
        # Joined to one line: a rule has no indentation that could be wrong.
        return ast.parse(" ".join(text.split()), mode="eval").body
    except SyntaxError as exc:
        place = f" near character {exc.offset}" if exc.offset else ""
        raise RuleSyntaxError(f"it is not a rule{place}: {exc.msg}") from exc
    except (MemoryError, RecursionError) as exc:
        raise RuleSyntaxError("it is nested too deeply") from exc


def _condition(node: ast.expr, depth: int) -> Condition:
    depth = _next_depth(depth)
    match node:
        case ast.BoolOp(op=op, values=values):
            operands = tuple(_condition(value, depth) for value in values)
            return BooleanOperation("and" if isinstance(op, ast.And) else "or", operands)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return Not(_condition(operand, depth))
        case ast.Compare():
            return _comparison(node, depth)
        case ast.Call():
            return _crossing(node, depth)
        case ast.Name(id=name) if name in CONSTANTS:
            return BooleanConstant(CONSTANTS[name])
    raise RuleSyntaxError(f"{_quote(ast.unparse(node))} is not a condition such as `close > 100`")


def _comparison(node: ast.Compare, depth: int) -> Condition:
    """Return a comparison; ``a < b < c`` becomes ``a < b and b < c``."""
    sides = [_number(side, depth) for side in (node.left, *node.comparators)]
    symbols = [_SYMBOLS.get(type(op)) for op in node.ops]
    comparisons = []
    for symbol, (left, right) in zip(symbols, pairwise(sides), strict=True):
        if symbol is None:
            raise RuleSyntaxError("unknown comparison; use <, <=, >, >=, == or !=")
        comparisons.append(Comparison(symbol, left, right))
    if len(comparisons) == 1:
        return comparisons[0]
    return BooleanOperation("and", tuple(comparisons))


def _crossing(node: ast.Call, depth: int) -> Condition:
    match node:
        case ast.Call(func=ast.Name(id=word), args=[left, right], keywords=[]) if word in CROSSINGS:
            return Crossing(CROSSINGS[word], _number(left, depth), _number(right, depth))
        case ast.Call(func=ast.Name(id=word)) if word in CROSSINGS:
            raise RuleSyntaxError(f"{word} needs two values, such as {word}(close, 100)")
    word = ast.unparse(node.func)
    raise RuleSyntaxError(f"{_quote(word)} is not a function{did_you_mean(word, CROSSINGS)}")


def _number(node: ast.expr, depth: int) -> NumericExpression:
    depth = _next_depth(depth)
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            # Python reads 1e999 as infinity, and integers of any length.
            if abs(value) >= 1e300:
                raise RuleSyntaxError("it contains a number that is too large")
            return Number(float(value))
        case ast.Name(id=name) if name not in CONSTANTS:
            return Variable(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return UnaryMinus(_number(operand, depth))
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _SYMBOLS:
            return Arithmetic(_SYMBOLS[type(op)], _number(left, depth), _number(right, depth))
    raise RuleSyntaxError(
        f"{_quote(ast.unparse(node))} is not a value such as `close` or `2 * fast`"
    )


def _next_depth(depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise RuleSyntaxError("it is nested too deeply")
    return depth + 1


def _quote(text: str) -> str:
    return f"`{text if len(text) <= 30 else text[:29] + '…'}`"
