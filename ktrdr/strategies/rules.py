"""Rules as trees: conditions on figures that have names.

What a rule is true of is computed here for plain numbers and for arrays alike: the operators are
the values' own.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Number:
    """A number, not negative; a minus is a `Negative`."""

    value: float


@dataclass(frozen=True, slots=True)
class Named:
    """An indicator, a parameter, or a column of the bars."""

    name: str


@dataclass(frozen=True, slots=True)
class Negative:
    """Minus a figure."""

    of: Figure


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Two figures made into one."""

    sign: str
    left: Figure
    right: Figure


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether one figure is, for example, above another."""

    sign: str
    left: Figure
    right: Figure


@dataclass(frozen=True, slots=True)
class Crossing:
    """Whether ``left`` is now beyond ``right``, and at the bar before was not."""

    upwards: bool
    left: Figure
    right: Figure


@dataclass(frozen=True, slots=True)
class Constant:
    """``always`` or ``never``."""

    truth: bool


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a condition."""

    of: Condition


@dataclass(frozen=True, slots=True)
class Combined:
    """Conditions of which all, or any, must be true."""

    sign: Literal["and", "or"]
    parts: tuple[Condition, ...]


Figure: TypeAlias = Number | Named | Negative | Arithmetic
Condition: TypeAlias = Comparison | Crossing | Constant | Not | Combined
Rule: TypeAlias = Figure | Condition


def _divide(left: Any, right: Any) -> Any:
    """Division as IEEE 754 has it, of numbers as well as of arrays: by zero it gives no error."""
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


def truth_of(
    rule: Condition, values: Mapping[str, Any], before: Callable[[Any], Any] = lambda value: value
) -> Any:
    """Whether, or for arrays where, the rule is true.

    A rule is false where any figure that it compares is not known (NaN), be it under a ``not``: a
    strategy does nothing before its indicators have seen enough bars.

    Args:
        rule: What is asked.
        values: The figures by name.
        before: Gives a figure as it was one bar earlier.

    Raises:
        ZeroDivisionError: Of plain numbers; arrays have infinities instead.
    """
    reading = _Reading(values, before)
    truth = reading.condition(rule)
    return truth & reading.known


def names_of(rule: Rule) -> frozenset[str]:
    """Every name in the rule."""
    return frozenset(_names(rule))


def text_of(rule: Rule) -> str:
    """The rule in its one normal form, with every pair of brackets; it reads as the same rule."""
    match rule:
        case Number(value):
            return repr(value)
        case Named(name):
            return name
        case Negative(of):
            return f"(-{text_of(of)})"
        case Arithmetic(sign, left, right) | Comparison(sign, left, right):
            return f"({text_of(left)} {sign} {text_of(right)})"
        case Crossing(upwards, left, right):
            word = next(word for word, up in CROSSINGS.items() if up is upwards)
            return f"{word}({text_of(left)}, {text_of(right)})"
        case Constant(truth):
            return next(word for word, true in CONSTANTS.items() if true is truth)
        case Not(inner):
            return f"(not {text_of(inner)})"
        case Combined(sign, parts):
            return f"({f' {sign} '.join(map(text_of, parts))})"


class _Reading:
    """One evaluation; ``known`` is whether all figures compared so far had a value."""

    def __init__(self, values: Mapping[str, Any], before: Callable[[Any], Any]) -> None:
        self._values = values
        self._before = before
        self.known: Any = True

    def condition(self, rule: Condition) -> Any:
        match rule:
            case Comparison(sign, left, right):
                return self._compare(sign, self._figure(left), self._figure(right))
            case Crossing(upwards, left, right):
                return self._crossing(upwards, self._figure(left), self._figure(right))
            case Constant(truth):
                return truth
            case Not(inner):
                # `not` and `~` mean other things for plain truths and for arrays of them.
                return self.condition(inner) ^ True
            case Combined(sign, parts):
                found = self.condition(parts[0])
                for part in parts[1:]:
                    more = self.condition(part)
                    found = found & more if sign == "and" else found | more
                return found

    def _compare(self, sign: str, left: Any, right: Any) -> Any:
        # What is not a number is not even equal to itself.
        self.known = self.known & (left == left) & (right == right)
        return COMPARISONS[sign](left, right)

    def _crossing(self, upwards: bool, left: Any, right: Any) -> Any:
        now, then = (">", "<=") if upwards else ("<", ">=")
        earlier = self._compare(then, self._before(left), self._before(right))
        return self._compare(now, left, right) & earlier

    def _figure(self, rule: Figure) -> Any:
        match rule:
            case Number(value):
                return value
            case Named(name):
                return self._values[name]
            case Negative(of):
                return -self._figure(of)
            case Arithmetic(sign, left, right):
                return ARITHMETIC[sign](self._figure(left), self._figure(right))


def _names(rule: Rule) -> Iterator[str]:
    match rule:
        case Named(name):
            yield name
        case Negative(of) | Not(of):
            yield from _names(of)
        case Arithmetic(_, left, right) | Comparison(_, left, right) | Crossing(_, left, right):
            yield from _names(left)
            yield from _names(right)
        case Combined(_, parts):
            for part in parts:
                yield from _names(part)
