"""Indicators side by side, for a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ktrdr.indicators.formulas import indicator
from ktrdr.marketdata.bars import Bars, Floats


def table(bars: Bars, wanted: Iterable[tuple[str, Mapping[str, Any]]]) -> Floats:
    """One row a bar, a column for each kind and its arguments; NaN where the past is too short."""
    return np.column_stack([indicator(bars, kind, arguments) for kind, arguments in wanted])
