"""How much of the capital a position is to be."""

from __future__ import annotations

import numpy as np

from ktrdr.backtesting.figures import Figures
from ktrdr.marketdata.bars import Floats
from ktrdr.strategies.document import Component


def weights(sizing: Component, figures: Figures) -> Floats:
    """The share of capital that a position should be at each close, 0 to 1; NaN if not known yet.

    A volatility target is annual / (v * sqrt(Y)), ``maximum`` at most, where v is the standard
    deviation of one bar's log return over ``window`` bars and Y the bars in a year. Source: A.
    Moreira and T. Muir, "Volatility-Managed Portfolios", Journal of Finance 72(4), 2017, with the
    deviation in the place of the variance.
    """
    bars = figures.bars
    if sizing.kind == "volatility_target":
        of_a_bar = figures.of(Component("volatility", (("window", sizing.argument("window")),)))
        of_a_year = of_a_bar * np.sqrt(bars.bars_a_year)
        # A price that does not move can be held in full.
        with np.errstate(divide="ignore"):
            wanted: Floats = sizing.argument("annual") / of_a_year
        return np.minimum(wanted, float(sizing.argument("maximum")))
    share = sizing.argument("fraction") if sizing.kind == "fraction" else 1.0
    return np.full(len(bars), float(share))


def band(sizing: Component) -> float:
    """How far the wanted share must be from the one that is held before it is traded."""
    return float(sizing.argument("band")) if sizing.kind == "volatility_target" else 0.0
