"""Loaded by a Python that has this directory on PYTHONPATH: gives it a wall clock that can be set.

The file that KTRDR_CHAOS_CLOCK names holds by how many seconds the clock is wrong; it is read at
every look. What only goes on, such as the monotonic clock, is left alone, as a jump of a real clock
leaves it.
"""

import datetime as dt
import os
import time
from pathlib import Path

_FILE = Path(os.environ["KTRDR_CHAOS_CLOCK"])
_true = time.time


def _wrong_by() -> float:
    return float(_FILE.read_text())


class _Datetime(dt.datetime):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> "_Datetime":
        """The time by the wrong clock."""
        return cls.fromtimestamp(time.time(), tz)


time.time = lambda: _true() + _wrong_by()
dt.datetime = _Datetime  # type: ignore[misc]  # that is the point
