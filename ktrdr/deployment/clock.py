"""Where a deploy gets the time from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """The time of this machine; tests bring their own.

    Attributes:
        now: The time of day, aware.
        monotonic: Seconds that never go back.
        sleep: Lets so many seconds pass.
    """

    now: Callable[[], datetime] = _now
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
