"""Stored models as indicators: one is asked about what came after it, never about what it saw."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ktrdr.errors import InvalidParameters
from ktrdr.marketdata.bars import Bars, Floats

if TYPE_CHECKING:
    from collections.abc import Mapping


class Signal(Protocol):
    """What a backtest needs to know of a stored model."""

    @property
    def sha256(self) -> str:
        """The hash of its file."""
        ...

    @property
    def timeframe(self) -> str:
        """The length of the bars that it was trained on."""
        ...

    @property
    def trained_until(self) -> datetime:
        """The last bar that it has learnt from, labels included."""
        ...

    def probabilities(self, bars: Bars) -> Floats:
        """At each bar the probability of a rise; NaN where its features are not known."""
        ...


def read_signal(models: Path, name: str) -> Signal:
    """The stored model of that name.

    Raises:
        InvalidParameters: It is missing, damaged, or of other libraries than there are.
    """
    # Loading scikit-learn takes a second and 100 MB, which most backtests do without.
    from ktrdr.training.stored import read_model

    return read_model(models, name)


def refuse_what_they_learnt_from(
    signals: Mapping[str, Signal], bars: Bars, first_traded: int
) -> None:
    """Refuses to trade bars that a model has seen: it would only show how well it remembers.

    Raises:
        InvalidParameters: A model was trained on bars from ``first_traded`` on, or on bars of
            another length.
    """
    begins = bars.times[first_traded].to_pydatetime()
    for name, signal in signals.items():
        if signal.timeframe != bars.timeframe:
            raise InvalidParameters(
                f"model {name} was trained on {signal.timeframe} bars, not {bars.timeframe} bars",
                hint="Train a model on bars of this length.",
            )
        if begins <= signal.trained_until:
            raise InvalidParameters(
                f"model {name} has learnt from bars up to {signal.trained_until:%Y-%m-%d}, and the "
                f"backtest would trade from {begins:%Y-%m-%d}",
                hint=f"Trade bars after {signal.trained_until:%Y-%m-%d} only: a larger start or "
                "train_bars, or a model that was trained on less.",
            )
