"""Cache of the indicators that a strategy's rules use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from ktrdr.backtesting.models import MODEL_KIND, PredictionModel
from ktrdr.indicators.formulas import compute_indicator
from ktrdr.marketdata.bars import Bars, Floats
from ktrdr.strategies.document import Component

# The combinations of a grid share most of their indicators.
MAX_CACHE_BYTES: Final = 128 * 1024 * 1024


class IndicatorCache:
    """Cache that computes indicators on first use and evicts the least recently used."""

    def __init__(self, bars: Bars, models: Mapping[str, PredictionModel]) -> None:
        self.bars = bars
        self._models = models
        self._cache: OrderedDict[Component, Floats] = OrderedDict()

    def values(self, indicator: Component) -> Floats:
        """Return the indicator's value at each bar; NaN where it is unknown."""
        if indicator in self._cache:
            self._cache.move_to_end(indicator)
            return self._cache[indicator]
        values = self._cache[indicator] = self._compute(indicator)
        total_bytes = sum(cached.nbytes for cached in self._cache.values())
        while len(self._cache) > 1 and total_bytes > MAX_CACHE_BYTES:
            _, evicted = self._cache.popitem(last=False)
            total_bytes -= evicted.nbytes
        return values

    def _compute(self, indicator: Component) -> Floats:
        if indicator.kind == MODEL_KIND:
            return self._models[indicator.argument("name")].predict_probabilities(self.bars)
        return compute_indicator(self.bars, indicator.kind, dict(indicator.arguments))
