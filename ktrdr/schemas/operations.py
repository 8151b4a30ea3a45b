"""Operations: parameters, requests, status, events and results."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from ktrdr.schemas.base import RequestModel, ResponseModel, SafeName
from ktrdr.schemas.errors import ErrorDetail
from ktrdr.schemas.workers import WorkerType


class OperationType(StrEnum):
    """Type of an operation."""

    BACKTEST = "backtest"
    TRAINING = "training"
    SWEEP = "sweep"

    @property
    def worker_type(self) -> WorkerType:
        """Type of the workers that run operations of this type."""
        return _WORKER_TYPES[self]


_WORKER_TYPES: Final = {
    OperationType.BACKTEST: WorkerType.BACKTESTING,
    OperationType.TRAINING: WorkerType.TRAINING,
    OperationType.SWEEP: WorkerType.BACKTESTING,
}


class OperationStatus(StrEnum):
    """Status of an operation; the last three are final."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """True if the operation has ended."""
        return self not in (OperationStatus.PENDING, OperationStatus.RUNNING)


class _MarketDataParameters(RequestModel):
    """Parameters of every operation on market data: which bars of which symbol."""

    symbol: SafeName
    timeframe: SafeName = "1d"
    start: date | None = None
    end: date | None = None
    seed: int = Field(default=0, ge=0, le=2**32 - 1)

    @model_validator(mode="after")
    def _check_date_order(self) -> _MarketDataParameters:
        if self.start and self.end and self.start >= self.end:
            raise ValueError(f"start {self.start} is not before end {self.end}")
        return self


ParameterValue = Annotated[int | float, Field(allow_inf_nan=False)]
# A single value, or several candidates of which each fold chooses the best.
ParameterValues = (
    ParameterValue | Annotated[tuple[ParameterValue, ...], Field(min_length=1, max_length=1000)]
)
# A strategy's rules use its parameters' names, so they are identifiers.
ParameterName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class BacktestParameters(_MarketDataParameters):
    """Parameters of a walk-forward backtest of a strategy.

    If a strategy parameter has several values, each fold trades with those that had the best Sharpe
    ratio in the bars before it. Costs and sizing default to the strategy's own. Costs are fractions
    of the traded value.
    """

    strategy: SafeName = "moving_average_cross"
    strategy_parameters: dict[ParameterName, ParameterValues] = Field(default_factory=dict)
    folds: int = Field(default=5, ge=1, le=100)
    train_bars: int = Field(default=756, ge=20, description="In-sample bars before each fold.")
    initial_capital: float = Field(default=100_000.0, gt=0, le=1e15)
    commission: float | None = Field(default=None, ge=0, lt=0.1)
    slippage: float | None = Field(default=None, ge=0, lt=0.1)

    @model_validator(mode="before")
    @classmethod
    def _convert_release_0_1(cls, values: Any) -> Any:
        """Convert the parameters of release 0.1.0, which knew only the moving-average cross.

        Operations that it queued may still run.
        """
        if not isinstance(values, Mapping) or values.get("strategy_parameters"):
            return values
        if values.get("strategy", "moving_average_cross") != "moving_average_cross":
            return values
        old_names = {"fast_windows": "fast", "slow_windows": "slow"}
        windows = {new: values[old] for old, new in old_names.items() if old in values}
        if not windows:
            return values
        others = {name: value for name, value in values.items() if name not in old_names}
        return {**others, "strategy_parameters": windows}


class SweepParameters(BacktestParameters):
    """Parameters of a sweep: backtests of all combinations of parameters, in one report.

    Every combination of the values in ``strategy_parameters`` becomes a backtest of its own, except
    those that the strategy's constraint forbids.
    """

    metric: Literal["sharpe", "sortino", "cagr", "total_return", "max_drawdown"] = "sharpe"


class TrainingParameters(_MarketDataParameters):
    """Parameters of a training: a classifier of the sign of the next bars' return.

    Its inputs are features of past bars. The model of the epoch with the lowest validation loss is
    kept. Training stops after ``patience`` epochs in a row without improvement.
    """

    model_name: SafeName = "direction"
    features: SafeName = "default"
    horizon_bars: int = Field(default=5, ge=1, le=250)
    epochs: int = Field(default=20, ge=1, le=1000)
    patience: int = Field(default=5, ge=1, le=1000)
    validation_fraction: float = Field(default=0.2, gt=0, lt=0.9)
    hidden_units: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = (32, 16)
    learning_rate: float = Field(default=0.001, gt=0, le=1)
    test_fraction: float = Field(default=0.25, gt=0, lt=0.9)


OperationParameters = BacktestParameters | TrainingParameters | SweepParameters


class OperationRequest(RequestModel):
    """Body of ``POST /operations``; the parameters must fit the type."""

    operation_type: OperationType
    parameters: dict[str, Any] = Field(default_factory=dict)


class Operation(ResponseModel):
    """Operation as the API shows it."""

    operation_id: str
    operation_type: OperationType
    status: OperationStatus
    parameters: dict[str, Any]
    progress: float
    progress_message: str | None
    worker_id: str | None
    attempt: int
    submitted_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    parent_id: str | None = Field(default=None, description="Parent of a child operation.")
    retry_at: datetime | None = Field(
        default=None, description="Earliest time of the retry, while the operation waits for it."
    )
    retry_reason: str | None = Field(
        default=None, description="Why the last failed attempt is retried."
    )
    error: ErrorDetail | None
    trace_id: str | None


class OperationPage(ResponseModel):
    """Page of a listing, newest first; pass ``next_cursor`` to get the next page."""

    operations: list[Operation]
    next_cursor: str | None


class OperationResults(ResponseModel):
    """Results of a completed operation.

    Attributes:
        summary: Named figures, which each handler documents.
        directory: Directory of the files, relative to the shared directory.
        files: Names of the files within the directory.
        report: Name of the self-contained HTML page among them.
    """

    operation_id: str
    operation_type: OperationType
    summary: dict[str, float | int | str | None]
    directory: str
    files: list[str]
    report: str


class OperationEvent(ResponseModel):
    """Event of an operation, as ``GET /operations/{id}/events`` streams it."""

    event_id: int
    operation_id: str
    at: datetime
    kind: Literal["submitted", "started", "progress", "checkpoint", "requeued", "finished"]
    status: OperationStatus
    progress: float
    message: str | None = None


class OrphanFile(ResponseModel):
    """Directory or log that no operation needs any more."""

    operation_id: str
    path: str
