"""Base classes, patterns and limits that all schemas share."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

API_PREFIX: Final = "/api/v1"
# One path segment without separators or a leading dot, so no name leads out of its directory.
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
OPERATION_ID_PATTERN: Final = r"^op_(backtest|training|sweep)_\d{8}_\d{6}_[0-9a-f]{8}$"
# Text without control characters, which PostgreSQL cannot hold or a terminal cannot show.
PLAIN_TEXT_PATTERN: Final = r"^[^\x00-\x1f\x7f]*$"
MAX_BATCH: Final = 1000

SafeName = Annotated[str, Field(pattern=NAME_PATTERN)]


class RequestModel(BaseModel):
    """Base of everything that is sent as a request: immutable, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ResponseModel(BaseModel):
    """Base of everything that is returned; a client of an earlier release ignores new keys."""

    model_config = ConfigDict(frozen=True, extra="ignore")
