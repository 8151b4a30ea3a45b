"""Rules as expression trees, and their evaluation.

Numbers and arrays are evaluated by the same code: the operators are those of the values.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Number:
    """A number that is not negative. A minus sign is a `UnaryMinus`."""

    value: float


@dataclass(frozen=True, slots=True)
class Variable:
    """The name of an indicator, a parameter, or a column of the bars."""

    name: str


@dataclass(frozen=True, slots=True)
class UnaryMinus:
    """The negative of a value."""

    operand: NumericExpression


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """An arithmetic operation on two values."""

    symbol: str
    left: NumericExpression
    right: NumericExpression


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of two values."""

    symbol: str
    left: NumericExpression
    right: NumericExpression


@dataclass(frozen=True, slots=True)
class Crossing:
    """A condition that ``left`` has moved beyond ``right`` since the previous bar."""

    is_upward: bool
    left: NumericExpression
    right: NumericExpression


@dataclass(frozen=True, slots=True)
class BooleanConstant:
    """The constant ``always`` or ``never``."""

    truth: bool


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a condition."""

    operand: Condition


@dataclass(frozen=True, slots=True)
class BooleanOperation:
    """Several conditions, joined by ``and`` or by ``or``."""

    symbol: Literal["and", "or"]
    operands: tuple[Condition, ...]


NumericExpression: TypeAlias = Number | Variable | UnaryMinus | Arithmetic
Condition: TypeAlias = Comparison | Crossing | BooleanConstant | Not | BooleanOperation
Expression: TypeAlias = NumericExpression | Condition


def _divide(left: Any, right: Any) -> Any:
    """Divide numbers or arrays as IEEE 754 does: division by zero is no error."""
    try:
        return left / right
    except ZeroDivisionError:
        if left == 0 or math.isnan(left):
            return math.nan
        return math.copysign(math.inf, left) * math.copysign(1.0, right)


ARITHMETIC: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
}
COMPARISONS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
CONSTANTS: Final = {"always": True, "never": False}
CROSSINGS: Final = {"crosses_above": True, "crosses_below": False}


def evaluate_condition(
    condition: Condition,
    values: Mapping[str, Any],
    previous_bar: Callable[[Any], Any] = lambda value: value,
) -> Any:
    """Return the truth of a condition: a boolean or, for arrays, an array of booleans.

    A condition is false where any compared value is unknown (NaN), even below a ``not``: a
    strategy does nothing before its indicators have enough bars.

    Args:
        condition: Condition to evaluate.
        values: Values of the variables by name.
        previous_bar: Function that returns a value as of one bar earlier.
    """
    evaluation = _Evaluation(values, previous_bar)
    truth = evaluation.condition(condition)
    return truth & evaluation.is_known


def referenced_names(expression: Expression) -> frozenset[str]:
    """Return the names of all variables in the expression."""
    return frozenset(_variables(expression))


def format_rule(expression: Expression) -> str:
    """Return the expression as text in normal form, with all brackets; parsing reverses it."""
    match expression:
        case Number(value):
            return repr(value)
        case Variable(name):
            return name
        case UnaryMinus(operand):
            return f"(-{format_rule(operand)})"
        case Arithmetic(symbol, left, right) | Comparison(symbol, left, right):
            return f"({format_rule(left)} {symbol} {format_rule(right)})"
        case Crossing(is_upward, left, right):
            word = next(word for word, upward in CROSSINGS.items() if upward is is_upward)
            return f"{word}({format_rule(left)}, {format_rule(right)})"
        case BooleanConstant(truth):
            return next(word for word, value in CONSTANTS.items() if value is truth)
        case Not(operand):
            return f"(not {format_rule(operand)})"
        case BooleanOperation(symbol, operands):
            return f"({f' {symbol} '.join(map(format_rule, operands))})"


class _Evaluation:
    """Evaluation of a condition. ``is_known`` is true while every compared value is known."""

    def __init__(self, values: Mapping[str, Any], previous_bar: Callable[[Any], Any]) -> None:
        self._values = values
        self._previous_bar = previous_bar
        self.is_known: Any = True

    def condition(self, condition: Condition) -> Any:
        match condition:
            case Comparison(symbol, left, right):
                return self._compare(symbol, self._number(left), self._number(right))
            case Crossing(is_upward, left, right):
                return self._crossing(is_upward, self._number(left), self._number(right))
            case BooleanConstant(truth):
                return truth
            case Not(operand):
                # `not` and `~` differ between booleans and arrays of booleans.
                return self.condition(operand) ^ True
            case BooleanOperation(symbol, operands):
                result = self.condition(operands[0])
                for operand in operands[1:]:
                    truth = self.condition(operand)
                    result = result & truth if symbol == "and" else result | truth
                return result

    def _compare(self, symbol: str, left: Any, right: Any) -> Any:
        # NaN does not even equal itself.
        self.is_known = self.is_known & (left == left) & (right == right)
        return COMPARISONS[symbol](left, right)

    def _crossing(self, is_upward: bool, left: Any, right: Any) -> Any:
        now, before = (">", "<=") if is_upward else ("<", ">=")
        earlier = self._compare(before, self._previous_bar(left), self._previous_bar(right))
        return self._compare(now, left, right) & earlier

    def _number(self, expression: NumericExpression) -> Any:
        match expression:
            case Number(value):
                return value
            case Variable(name):
                return self._values[name]
            case UnaryMinus(operand):
                return -self._number(operand)
            case Arithmetic(symbol, left, right):
                return ARITHMETIC[symbol](self._number(left), self._number(right))


def _variables(expression: Expression) -> Iterator[str]:
    match expression:
        case Variable(name):
            yield name
        case UnaryMinus(operand) | Not(operand):
            yield from _variables(operand)
        case Arithmetic(_, left, right) | Comparison(_, left, right) | Crossing(_, left, right):
            yield from _variables(left)
            yield from _variables(right)
        case BooleanOperation(_, operands):
            for operand in operands:
                yield from _variables(operand)
