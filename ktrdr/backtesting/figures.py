"""The figures that a strategy's rules speak of, on some bars."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ktrdr.backtesting.signals import Signal, read_signal
from ktrdr.indicators.formulas import indicator
from ktrdr.marketdata.bars import Bars, Floats
from ktrdr.strategies.document import Component, Strategy

# Of the figures most recently used, so many bytes are kept: those of a grid share most of theirs.
KEPT_BYTES: Final = 128 * 1024 * 1024
MODEL: Final = "model"


class Figures:
    """Computes each figure when it is first asked for, and keeps it while there is room."""

    def __init__(self, bars: Bars, signals: Mapping[str, Signal]) -> None:
        self.bars = bars
        self._signals = signals
        self._kept: OrderedDict[Component, Floats] = OrderedDict()

    def of(self, definition: Component) -> Floats:
        """The figure at each bar; NaN where it is not known."""
        if definition in self._kept:
            self._kept.move_to_end(definition)
            return self._kept[definition]
        found = self._computed(definition)
        self._kept[definition] = found
        while len(self._kept) > 1 and sum(each.nbytes for each in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return found

    def _computed(self, definition: Component) -> Floats:
        if definition.kind == MODEL:
            return self._signals[definition.argument("name")].probabilities(self.bars)
        return indicator(self.bars, definition.kind, dict(definition.arguments))


def read_signals(strategy: Strategy, models: Path) -> dict[str, Signal]:
    """The stored models that a strategy asks, by name.

    Raises:
        InvalidParameters: One is missing, damaged, or of other libraries than there are.
    """
    names = {
        each.with_values({}).argument("name")
        for each in strategy.indicators.values()
        if each.kind == MODEL
    }
    return {name: read_signal(models, name) for name in sorted(names)}
