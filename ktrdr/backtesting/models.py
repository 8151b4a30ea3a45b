"""Stored models as indicators, used only on bars after those they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from ktrdr.errors import InvalidParameters
from ktrdr.marketdata.bars import Bars, Floats
from ktrdr.strategies.document import Strategy

MODEL_KIND: Final = "model"


class PredictionModel(Protocol):
    """Interface of a stored model."""

    @property
    def sha256(self) -> str:
        """Hash of the model file."""
        ...

    @property
    def timeframe(self) -> str:
        """Length of the bars that the model was trained on."""
        ...

    @property
    def trained_until(self) -> datetime:
        """Time of the last bar that the training used, labels included."""
        ...

    def predict_probabilities(self, bars: Bars) -> Floats:
        """Return each bar's probability of a rise; NaN where a feature is unknown."""
        ...


def load_models(strategy: Strategy, directory: Path) -> dict[str, PredictionModel]:
    """Return the stored models that a strategy uses, by name.

    Raises:
        InvalidParameters: A model is missing or damaged, or needs other versions of the libraries.
    """
    names = {
        template.with_values({}).argument("name")
        for template in strategy.indicators.values()
        if template.kind == MODEL_KIND
    }
    if not names:
        return {}
    # Loading scikit-learn takes a second and 100 MB, which most backtests do not need.
    from ktrdr.training.model_store import load_model

    return {name: load_model(directory, name) for name in sorted(names)}


def require_out_of_sample(
    models: Mapping[str, PredictionModel], bars: Bars, first_traded: int
) -> None:
    """Reject models that were trained on the bars to be traded, whose outcome they have learnt.

    Raises:
        InvalidParameters: A model was trained on bars from ``first_traded`` on, or on bars of
            another length.
    """
    start = bars.times[first_traded].to_pydatetime()
    for name, model in models.items():
        if model.timeframe != bars.timeframe:
            raise InvalidParameters(
                f"model {name} was trained on {model.timeframe} bars, not {bars.timeframe} bars",
                hint="Train a model on bars of this length.",
            )
        if start <= model.trained_until:
            raise InvalidParameters(
                f"model {name} was trained on bars up to {model.trained_until:%Y-%m-%d}, and the "
                f"backtest would trade from {start:%Y-%m-%d}",
                hint=f"Trade only bars after {model.trained_until:%Y-%m-%d}: choose a later start, "
                "a larger train_bars, or a model that was trained on earlier bars.",
            )
