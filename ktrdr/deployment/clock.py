"""Clock that deploys use, and that tests replace."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

_UTC_NOW: Final = partial(datetime.now, UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """Clock of this machine.

    Attributes:
        now: Function that returns the time of day, with its zone.
        monotonic: Function that returns seconds that never decrease.
        sleep: Function that waits for some seconds.
    """

    now: Callable[[], datetime] = _UTC_NOW
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
