"""Adjustable wall clock for a Python process that has this directory on PYTHONPATH.

The file that KTRDR_CHAOS_CLOCK names contains the error of the clock in seconds. It is read at
every call. The monotonic clock stays unchanged, as in a real change of the clock.
"""

import datetime as dt
import os
import time
from pathlib import Path

_FILE = Path(os.environ["KTRDR_CHAOS_CLOCK"])
_real_time = time.time


def _error_s() -> float:
    return float(_FILE.read_text())


class _Datetime(dt.datetime):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> "_Datetime":
        """Return the adjusted time."""
        return cls.fromtimestamp(time.time(), tz)


time.time = lambda: _real_time() + _error_s()
dt.datetime = _Datetime  # type: ignore[misc]  # replaced on purpose
