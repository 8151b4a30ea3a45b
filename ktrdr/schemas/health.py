"""Health of backend and workers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from ktrdr.schemas.base import ResponseModel
from ktrdr.schemas.errors import ErrorDetail
from ktrdr.schemas.workers import WorkerType


class BuildVersion(ResponseModel):
    """Version of a running service.

    Attributes:
        image_tag: Tag under which the image was deployed.
        commit: Commit that the image was built from.
        release: Version of the package.
    """

    image_tag: str
    commit: str
    release: str


ContractMigrations = Annotated[
    tuple[str, ...],
    Field(
        validation_alias="contracts",
        serialization_alias="contracts",
        description="Contract migrations that this release knows, and so can run with.",
    ),
]


class Condition(ResponseModel):
    """Condition of a service's fitness.

    Attributes:
        name: What must be right, such as ``queue``.
        problem: Why it is not, in a sentence; None if it is.
        since: Time since which it has been so.
    """

    name: str
    problem: str | None = None
    since: datetime


class BackendHealth(ResponseModel):
    """Response of the backend to ``GET /health``."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    status: Literal["ok", "degraded"]
    version: BuildVersion
    database: Literal["ok", "unavailable"]
    problem: ErrorDetail | None = Field(default=None, description="Why it is not ready.")
    conditions: tuple[Condition, ...] = Field(default=(), description="What it needs to be ready.")
    uptime_s: float
    contract_migrations: ContractMigrations = ()


class WorkerHealth(ResponseModel):
    """Response of a worker to ``GET /health``."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    status: Literal["idle", "busy"]
    worker_id: str
    worker_type: WorkerType
    version: str
    commit: str
    current_operation_id: str | None
    problem: ErrorDetail | None = Field(default=None, description="Why it is not ready.")
    conditions: tuple[Condition, ...] = Field(default=(), description="What it needs to be ready.")
    registered: bool
    registration_error: str | None = Field(
        default=None, description="Why the last registration failed; None once registered."
    )
    uptime_s: float
    contract_migrations: ContractMigrations = ()
