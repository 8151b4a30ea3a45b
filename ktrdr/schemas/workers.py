"""Workers: what they say of themselves, and what the backend says of them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, HttpUrl

from ktrdr.schemas.base import Answer, Contract, Name


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


class Drain(Answer):
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


class Worker(Answer):
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


class WorkerHealth(Answer):
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
    contracts: tuple[str, ...] = Field(
        default=(),
        description="The contracting migrations that this release knows, and so can live with.",
    )
