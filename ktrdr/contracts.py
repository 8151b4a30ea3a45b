"""What travels between backend, workers and clients, as pydantic models.

Importable without FastAPI, database or domain code. Times are aware and in UTC; fractions run
from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, HttpUrl, model_validator

API_PREFIX: Final = "/api/v1"
# One path segment, no separators, no leading dot: no name can climb out of its directory.
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
OPERATION_ID_PATTERN: Final = r"^op_(backtest|training|sweep)_\d{8}_\d{6}_[0-9a-f]{8}$"

# Text that PostgreSQL can hold and a terminal can show: no control characters.
PLAIN_TEXT: Final = r"^[^\x00-\x1f\x7f]*$"
MAX_BATCH: Final = 1000

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


class DrainMode(StrEnum):
    """What a worker that is to make way does with what it runs."""

    FINISH = "finish"
    HAND_OVER = "hand_over"


class Drain(Contract):
    """A worker or node that takes nothing new."""

    target: str
    mode: DrainMode
    requested_by: str
    requested_at: datetime


class DrainRequest(Contract):
    """The body of ``PUT /drains/{target}``."""

    mode: DrainMode = DrainMode.FINISH


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
    drain: DrainMode | None = Field(
        default=None, description="Set while the worker takes nothing new."
    )
    clock_skew_s: float | None = Field(
        default=None, description="How far its clock is ahead of the backend's, to about a second."
    )


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
    SWEEP = "sweep"

    @property
    def worker_type(self) -> WorkerType:
        """The type of worker that does this work."""
        return _WORKER_OF[self]


_WORKER_OF: Final = {
    OperationType.BACKTEST: WorkerType.BACKTESTING,
    OperationType.TRAINING: WorkerType.TRAINING,
    OperationType.SWEEP: WorkerType.BACKTESTING,
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
    parent_id: str | None = Field(default=None, description="The operation this is a part of.")
    retry_at: datetime | None = Field(
        default=None, description="When it may be tried again, while it waits for that."
    )
    retry_reason: str | None = Field(
        default=None, description="Why the last attempt that had no outcome ended."
    )
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


class LeftoverFile(Contract):
    """A directory or log that an attempt left behind and nobody needs."""

    operation_id: str
    path: str


# ---------------------------------------------------------------- access


class TokenRevocation(Contract):
    """The body of ``POST /tokens/revoked``: the token's id, and when it would have expired."""

    token_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,200}$")]
    expires_at: AwareDatetime


class RevokedToken(Contract):
    """A token that is not believed any more."""

    token_id: str
    expires_at: datetime
    revoked_by: str
    revoked_at: datetime


class AuditEntry(Contract):
    """Who changed what, and when."""

    audit_id: int
    at: datetime
    actor: str
    role: str
    token_id: str
    action: str
    subject: str
    detail: dict[str, Any]


# ---------------------------------------------------------------- strategies


class StrategyParameter(Contract):
    """A parameter of a strategy, with what it may be; several defaults compete with each other."""

    name: str
    defaults: tuple[int | float, ...]
    minimum: int | float
    maximum: int | float
    integer: bool


class StrategyInfo(Contract):
    """A strategy in a listing; ``fault`` says why a file of one's own cannot be used."""

    name: str
    description: str
    built_in: bool
    parameters: list[StrategyParameter]
    content_hash: str
    fault: str | None = None


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
