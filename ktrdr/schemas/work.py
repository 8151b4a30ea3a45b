"""What operations are asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ktrdr.schemas.base import Contract, Name


class _DatedWork(Contract):
    """What every operation on market data says: which bars of which symbol."""

    symbol: Name
    timeframe: Name = "1d"
    start: date | None = None
    end: date | None = None
    seed: int = Field(default=0, ge=0, le=2**32 - 1)

    @model_validator(mode="after")
    def _dates_in_order(self) -> _DatedWork:
        if self.start and self.end and self.start >= self.end:
            raise ValueError(f"start {self.start} is not before end {self.end}")
        return self


# What a strategy's parameter may be: a number, or several that compete with each other.
Number = Annotated[int | float, Field(allow_inf_nan=False)]
Values = Number | Annotated[tuple[Number, ...], Field(min_length=1, max_length=1000)]
# As the strategy's file names them; they are used in its rules, so they are identifiers.
ParameterName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class BacktestParameters(_DatedWork):
    """A walk-forward backtest of a strategy.

    Where a parameter of the strategy has several values, each fold is traded with those that had
    the best Sharpe ratio in the bars before it. Costs and sizing are the strategy's own unless they
    are given here; costs are fractions of traded value.
    """

    strategy: Name = "moving_average_cross"
    strategy_parameters: dict[ParameterName, Values] = Field(default_factory=dict)
    folds: int = Field(default=5, ge=1, le=100)
    train_bars: int = Field(default=756, ge=20, description="In-sample bars before each fold.")
    initial_capital: float = Field(default=100_000.0, gt=0, le=1e15)
    commission: float | None = Field(default=None, ge=0, lt=0.1)
    slippage: float | None = Field(default=None, ge=0, lt=0.1)

    @model_validator(mode="before")
    @classmethod
    def _as_release_0_1_wrote_them(cls, given: Any) -> Any:
        """What release 0.1.0 queued may run yet; it knew the moving-average cross alone."""
        if not isinstance(given, Mapping) or given.get("strategy_parameters"):
            return given
        if given.get("strategy", "moving_average_cross") != "moving_average_cross":
            return given
        old = {"fast_windows": "fast", "slow_windows": "slow"}
        windows = {new: given[name] for name, new in old.items() if name in given}
        if not windows:
            return given
        kept = {name: value for name, value in given.items() if name not in old}
        return {**kept, "strategy_parameters": windows}


class SweepParameters(BacktestParameters):
    """Backtests of every combination of a strategy's parameters, collected into one report.

    Each combination of the values in ``strategy_parameters`` becomes a backtest of its own, in
    which nothing competes; combinations that the strategy's constraint forbids are left out.
    """

    metric: Literal["sharpe", "sortino", "cagr", "total_return", "max_drawdown"] = "sharpe"


class TrainingParameters(_DatedWork):
    """A classifier of the sign of the next bars' return, on features of past bars.

    The model of the epoch with the least loss on the validation part is kept; once so many epochs
    in a row as ``patience`` says were not better, no further one is tried.
    """

    model_name: Name = "direction"
    features: Name = "default"
    horizon_bars: int = Field(default=5, ge=1, le=250)
    epochs: int = Field(default=20, ge=1, le=1000)
    patience: int = Field(default=5, ge=1, le=1000)
    validation_fraction: float = Field(default=0.2, gt=0, lt=0.9)
    hidden_units: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = (32, 16)
    learning_rate: float = Field(default=0.001, gt=0, le=1)
    test_fraction: float = Field(default=0.25, gt=0, lt=0.9)


OperationParameters = BacktestParameters | TrainingParameters | SweepParameters
