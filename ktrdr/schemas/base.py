"""What all messages share."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

API_PREFIX: Final = "/api/v1"
# One path segment, no separators, no leading dot: no name can climb out of its directory.
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
OPERATION_ID_PATTERN: Final = r"^op_(backtest|training|sweep)_\d{8}_\d{6}_[0-9a-f]{8}$"

# Text that PostgreSQL can hold and a terminal can show: no control characters.
PLAIN_TEXT: Final = r"^[^\x00-\x1f\x7f]*$"
MAX_BATCH: Final = 1000

Name = Annotated[str, Field(pattern=NAME_PATTERN)]


class Contract(BaseModel):
    """The base of what is sent to somebody: immutable, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Answer(BaseModel):
    """The base of what comes back; whoever asks may be of an earlier release, and ignores more."""

    model_config = ConfigDict(frozen=True, extra="ignore")
