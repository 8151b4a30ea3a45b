"""What runs, and what is wrong."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ktrdr.schemas.base import Answer


class Version(Answer):
    """What runs: the tag it was deployed by, the commit it was built from, the release."""

    image_tag: str
    commit: str
    release: str


class BackendHealth(Answer):
    """The answer to ``GET /health``."""

    status: Literal["ok", "degraded"]
    version: Version
    database: Literal["ok", "unavailable"]
    uptime_s: float
    contracts: tuple[str, ...] = Field(
        default=(),
        description="The contracting migrations that this release knows, and so can live with.",
    )


class Problem(BaseModel):
    """An error as RFC 9457 writes it; ``hint`` is our extension."""

    model_config = ConfigDict(extra="ignore")

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    hint: str | None = None
