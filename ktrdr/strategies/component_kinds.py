"""Kinds of components that a strategy is made of: indicators and position sizings.

The formulas and sources of the indicators are in `ktrdr.indicators`. A test checks that the two
agree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ktrdr.schemas import NAME_PATTERN
from ktrdr.strategies.rule_parser import PRICES

LONGEST_WINDOW: Final = 5000


@dataclass(frozen=True, slots=True)
class NumberArgument:
    """A number, or the name of a parameter whose values are all allowed.

    Attributes:
        default: Value of an omitted argument, or None if the argument is required.
    """

    name: str
    minimum: float
    maximum: float
    is_integer: bool = False
    default: float | None = None

    def accepts(self, value: Any) -> bool:
        """Return whether the value is of the right type and within the bounds."""
        types = int if self.is_integer else (int, float)
        if isinstance(value, bool) or not isinstance(value, types):
            return False
        return self.minimum <= value <= self.maximum


@dataclass(frozen=True, slots=True)
class TextArgument:
    """A choice from the given ones or, without choices, text that matches the pattern."""

    name: str
    choices: tuple[str, ...] = ()
    pattern: str = ""
    default: str | None = None

    def accepts(self, value: Any) -> bool:
        """Return whether the value is one of the choices and matches the pattern."""
        if not isinstance(value, str) or (self.choices and value not in self.choices):
            return False
        return re.fullmatch(self.pattern, value) is not None if self.pattern else True


Argument = NumberArgument | TextArgument


@dataclass(frozen=True, slots=True)
class ComponentKind:
    """A kind of indicator or sizing, with a line for the documentation and its arguments."""

    name: str
    description: str
    arguments: tuple[Argument, ...] = ()

    def accepts(self, values: Mapping[str, Any]) -> bool:
        """Return whether the values are valid for exactly the arguments of this kind."""
        if set(values) != {argument.name for argument in self.arguments}:
            return False
        return all(argument.accepts(values[argument.name]) for argument in self.arguments)


def _window(minimum: int = 1, name: Literal["window", "bars"] = "window") -> NumberArgument:
    return NumberArgument(name, minimum, LONGEST_WINDOW, is_integer=True)


_OF: Final = TextArgument("of", choices=PRICES, default="close")

INDICATORS: Final[Mapping[str, ComponentKind]] = {
    kind.name: kind
    for kind in (
        ComponentKind("sma", "simple moving average", (_window(), _OF)),
        ComponentKind("ema", "exponential moving average", (_window(), _OF)),
        ComponentKind("deviation", "standard deviation of a price", (_window(2), _OF)),
        ComponentKind("rsi", "relative strength index, Wilder's smoothing", (_window(),)),
        ComponentKind("rsi_simple", "relative strength index, simple averages", (_window(),)),
        ComponentKind("donchian_high", "highest high of the previous bars", (_window(),)),
        ComponentKind("donchian_low", "lowest low of the previous bars", (_window(),)),
        ComponentKind("atr", "average true range", (_window(),)),
        ComponentKind("volatility", "standard deviation of one bar's log returns", (_window(2),)),
        ComponentKind("return", "return over some bars", (_window(name="bars"),)),
        ComponentKind("close_to_average", "close relative to its average", (_window(),)),
        ComponentKind("range", "high less low, relative to the close"),
        ComponentKind("place_in_range", "position of the close between low and high, 0 to 1"),
        ComponentKind("volume_z", "volume in standard deviations from its mean", (_window(2),)),
        ComponentKind(
            "model",
            "probability of a rise, predicted by a stored model",
            (TextArgument("name", pattern=NAME_PATTERN),),
        ),
    )
}
SIZINGS: Final[Mapping[str, ComponentKind]] = {
    kind.name: kind
    for kind in (
        ComponentKind("all_in", "all of the capital"),
        ComponentKind(
            "fraction",
            "a fixed share of the capital",
            (NumberArgument("fraction", 0.001, 1.0),),
        ),
        ComponentKind(
            "volatility_target",
            "the share of the capital that brings the volatility to a target",
            (
                NumberArgument("annual", 0.001, 10.0),
                NumberArgument("window", 2, LONGEST_WINDOW, is_integer=True, default=20),
                NumberArgument("maximum", 0.001, 1.0, default=1.0),
                NumberArgument("band", 0.0, 1.0, default=0.1),
            ),
        ),
    )
}
