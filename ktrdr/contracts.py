"""What travels between backend, workers and clients, as pydantic models.

Importable without FastAPI, database or domain code. Times are aware and in UTC; fractions run
from 0 to 1.
"""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, model_validator

API_PREFIX: Final = "/api/v1"
# One path segment, no separators, no leading dot: no name can climb out of its directory.
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
OPERATION_ID_PATTERN: Final = r"^op_(backtest|training)_\d{8}_\d{6}_[0-9a-f]{8}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]


class Contract(BaseModel):
    """The base of all messages: immutable, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# ---------------------------------------------------------------- workers


class WorkerType(StrEnum):
    """What a worker can do; also the name of the queue it serves."""

    BACKTESTING = "backtesting"
    TRAINING = "training"


class WorkerStatus(StrEnum):
    """What the registry thinks of a worker."""

    AVAILABLE = "available"
    BUSY = "busy"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"


class WorkerRegistration(Contract):
    """What a worker says of itself, at start and whenever the backend has forgotten it."""

    worker_id: Name
    worker_type: WorkerType
    endpoint_url: HttpUrl
    capabilities: dict[str, Any] = Field(default_factory=dict)
    version: str
    current_operation_id: str | None = None


class Worker(Contract):
    """A registered worker as the backend sees it."""

    worker_id: str
    worker_type: WorkerType
    endpoint_url: str
    status: WorkerStatus
    current_operation_id: str | None
    capabilities: dict[str, Any]
    version: str
    node: str
    registered_at: datetime
    last_healthy_at: datetime | None
    health_check_failures: int


class WorkerHealth(Contract):
    """A worker's own answer to ``GET /health``."""

    status: Literal["idle", "busy"]
    worker_id: str
    worker_type: WorkerType
    version: str
    commit: str
    current_operation_id: str | None
    registered: bool
    registration_error: str | None = Field(
        default=None, description="Why the last attempt to register failed; None once registered."
    )
    uptime_s: float


# ---------------------------------------------------------------- operations


class OperationType(StrEnum):
    """The kinds of work."""

    BACKTEST = "backtest"
    TRAINING = "training"

    @property
    def worker_type(self) -> WorkerType:
        """The type of worker that does this work."""
        return _WORKER_OF[self]


_WORKER_OF: Final = {
    OperationType.BACKTEST: WorkerType.BACKTESTING,
    OperationType.TRAINING: WorkerType.TRAINING,
}


class OperationStatus(StrEnum):
    """The life of an operation; the last three are final."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing can change any more."""
        return self not in (OperationStatus.PENDING, OperationStatus.RUNNING)


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


class BacktestParameters(_DatedWork):
    """A walk-forward backtest of the moving-average cross.

    In every fold the pair of windows with the best in-sample Sharpe ratio is chosen, and traded on
    the fold's out-of-sample bars alone. Costs are fractions of traded value.
    """

    strategy: Literal["moving_average_cross"] = "moving_average_cross"
    fast_windows: tuple[Annotated[int, Field(ge=1, le=500)], ...] = (10, 20, 50)
    slow_windows: tuple[Annotated[int, Field(ge=2, le=1000)], ...] = (50, 100, 200)
    folds: int = Field(default=5, ge=1, le=100)
    train_bars: int = Field(default=756, ge=20, description="In-sample bars before each fold.")
    initial_capital: float = Field(default=100_000.0, gt=0)
    commission: float = Field(default=0.0005, ge=0, lt=0.1)
    slippage: float = Field(default=0.0002, ge=0, lt=0.1)

    @model_validator(mode="after")
    def _some_pair_crosses(self) -> BacktestParameters:
        if not any(f < s for f in self.fast_windows for s in self.slow_windows):
            raise ValueError("no fast window is shorter than a slow one")
        return self


class TrainingParameters(_DatedWork):
    """A classifier of the sign of the next bars' return, on features of past bars."""

    model_name: Name = "direction"
    horizon_bars: int = Field(default=5, ge=1, le=250)
    epochs: int = Field(default=20, ge=1, le=1000)
    hidden_units: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = (32, 16)
    learning_rate: float = Field(default=0.001, gt=0, le=1)
    test_fraction: float = Field(default=0.25, gt=0, lt=0.9)


OperationParameters = BacktestParameters | TrainingParameters


class OperationRequest(Contract):
    """The body of ``POST /operations``; the parameters must fit the type."""

    operation_type: OperationType
    parameters: dict[str, Any] = Field(default_factory=dict)


class OperationFault(Contract):
    """Why an operation failed: one sentence, and what to do about it."""

    kind: str
    message: str
    hint: str | None = None


class Operation(Contract):
    """An operation as the API shows it."""

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
    error: OperationFault | None
    trace_id: str | None


class OperationPage(Contract):
    """One page of a listing, newest first; pass ``next_cursor`` to get the next."""

    operations: list[Operation]
    next_cursor: str | None


class OperationResults(Contract):
    """What a completed operation found.

    Attributes:
        summary: Named figures; each handler documents its own.
        directory: Where the files are, relative to the shared directory.
        files: Their names within it.
        report: The self-contained HTML page among them.
    """

    operation_id: str
    operation_type: OperationType
    summary: dict[str, float | int | str | None]
    directory: str
    files: list[str]
    report: str


class OperationEvent(Contract):
    """One step in an operation's life, as ``GET /operations/{id}/events`` streams them."""

    event_id: int
    operation_id: str
    at: datetime
    kind: Literal["submitted", "started", "progress", "checkpoint", "requeued", "finished"]
    status: OperationStatus
    progress: float
    message: str | None = None


# ---------------------------------------------------------------- health


class Version(Contract):
    """What runs: the tag it was deployed by, the commit it was built from, the release."""

    image_tag: str
    commit: str
    release: str


class BackendHealth(Contract):
    """The answer to ``GET /health``."""

    status: Literal["ok", "degraded"]
    version: Version
    database: Literal["ok", "unavailable"]
    uptime_s: float


class Problem(BaseModel):
    """An error as RFC 9457 writes it; ``hint`` is our extension."""

    model_config = ConfigDict(extra="ignore")

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    hint: str | None = None
