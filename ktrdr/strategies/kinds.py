"""What a strategy may be made of: kinds of indicators and of sizing, and their arguments.

What each indicator computes, with formula and source, stands in `ktrdr.indicators`; a test holds
the two together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ktrdr.schemas import NAME_PATTERN
from ktrdr.strategies.rule_text import PRICES

LONGEST_WINDOW: Final = 5000


@dataclass(frozen=True, slots=True)
class NumberArgument:
    """A number, or the name of a parameter whose values all fit.

    Attributes:
        default: What it is if nothing is said; None if it must be said.
    """

    name: str
    lowest: float
    highest: float
    whole: bool = False
    default: float | None = None

    def takes(self, value: Any) -> bool:
        """Whether it may be this value."""
        kinds = int if self.whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            return False
        return self.lowest <= value <= self.highest


@dataclass(frozen=True, slots=True)
class TextArgument:
    """One of some words, or of no words a text that fits the pattern."""

    name: str
    words: tuple[str, ...] = ()
    pattern: str = ""
    default: str | None = None

    def takes(self, value: Any) -> bool:
        """Whether it may be this value."""
        if not isinstance(value, str) or (self.words and value not in self.words):
            return False
        return re.fullmatch(self.pattern, value) is not None if self.pattern else True


Argument = NumberArgument | TextArgument


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of thing, with the arguments it takes; ``says`` is a line for the documentation."""

    name: str
    says: str
    arguments: tuple[Argument, ...] = ()

    def takes(self, given: Mapping[str, Any]) -> bool:
        """Whether these are all its arguments, and nothing else."""
        if set(given) != {argument.name for argument in self.arguments}:
            return False
        return all(argument.takes(given[argument.name]) for argument in self.arguments)


def _window(lowest: int = 1, name: Literal["window", "bars"] = "window") -> NumberArgument:
    return NumberArgument(name, lowest, LONGEST_WINDOW, whole=True)


_OF: Final = TextArgument("of", words=PRICES, default="close")

INDICATORS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("sma", "simple moving average", (_window(), _OF)),
        Kind("ema", "exponential moving average", (_window(), _OF)),
        Kind("deviation", "standard deviation of a price", (_window(2), _OF)),
        Kind("rsi", "relative strength index, Wilder's smoothing", (_window(),)),
        Kind("rsi_simple", "relative strength index, simple averages", (_window(),)),
        Kind("donchian_high", "highest high of the bars before", (_window(),)),
        Kind("donchian_low", "lowest low of the bars before", (_window(),)),
        Kind("atr", "average true range", (_window(),)),
        Kind("volatility", "standard deviation of log returns, of one bar", (_window(2),)),
        Kind("return", "return over some bars", (_window(name="bars"),)),
        Kind("close_to_average", "close relative to its average", (_window(),)),
        Kind("range", "high less low, relative to the close"),
        Kind("place_in_range", "where between low and high the close is, 0 to 1"),
        Kind("volume_z", "volume in standard deviations from its mean", (_window(2),)),
        Kind(
            "model",
            "probability of a rise, by a stored model",
            (TextArgument("name", pattern=NAME_PATTERN),),
        ),
    )
}
SIZINGS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("all_in", "all of the capital"),
        Kind("fraction", "a fixed share of the capital", (NumberArgument("fraction", 0.001, 1.0),)),
        Kind(
            "volatility_target",
            "as much as brings the volatility to a target",
            (
                NumberArgument("annual", 0.001, 10.0),
                NumberArgument("window", 2, LONGEST_WINDOW, whole=True, default=20),
                NumberArgument("maximum", 0.001, 1.0, default=1.0),
                NumberArgument("band", 0.0, 1.0, default=0.1),
            ),
        ),
    )
}
