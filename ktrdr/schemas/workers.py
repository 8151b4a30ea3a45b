"""Workers: registration, listing and drains."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field, HttpUrl, computed_field

from ktrdr.schemas.base import RequestModel, ResponseModel, SafeName


class WorkerType(StrEnum):
    """Type of operations that a worker runs; also the name of its queue."""

    BACKTESTING = "backtesting"
    TRAINING = "training"


class WorkerStatus(StrEnum):
    """Status of a registered worker."""

    AVAILABLE = "available"
    BUSY = "busy"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"


class DrainMode(StrEnum):
    """Handling of the running operation by a drained worker: finish it, or hand it over."""

    FINISH = "finish"
    HAND_OVER = "hand_over"


class Drain(ResponseModel):
    """Drain of a worker or node: it gets no new operations."""

    target: str
    mode: DrainMode
    requested_by: str
    requested_at: datetime


class DrainRequest(RequestModel):
    """Body of ``PUT /drains/{target}``."""

    mode: DrainMode = DrainMode.FINISH


class WorkerRegistration(RequestModel):
    """Body of ``POST /workers/register``, sent at start and whenever the backend forgot it."""

    worker_id: SafeName
    worker_type: WorkerType
    endpoint_url: HttpUrl
    capabilities: dict[str, Any] = Field(default_factory=dict)
    version: str
    current_operation_id: str | None = None


class Worker(ResponseModel):
    """Registered worker as the backend sees it."""

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
        default=None, description="Set while the worker gets no new operations."
    )
    problem: str | None = Field(
        default=None, description="Why it is not ready and claims no operations."
    )
    clock_skew_s: float | None = Field(
        default=None,
        description="Seconds by which its clock is ahead of the backend's, to about a second.",
    )

    @computed_field  # type: ignore[prop-decorator]  # mypy does not know pydantic's properties
    @property
    def state(self) -> str:
        """Return the status in more detail, in words that a later release may add to."""
        if self.problem and not self.health_check_failures:
            return "not ready"
        if self.drain and self.status is not WorkerStatus.TEMPORARILY_UNAVAILABLE:
            return "drained"
        return self.status.value.replace("_", " ")
