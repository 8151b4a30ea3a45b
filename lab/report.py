"""Says what is being done, one line a step, with the time it took."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class LabError(Exception):
    """The lab cannot go on; the message is one sentence for a person."""


class Report:
    """Lines on standard error; steps may run side by side."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lock = threading.Lock()

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announces a step, and says how long it took once it is done."""
        began = time.monotonic()
        self.say(f"{title} …")
        yield
        self.say(f"{title}: {time.monotonic() - began:.0f} s")

    def say(self, text: str) -> None:
        """One line, with the time since the beginning before it."""
        with self._lock:
            sys.stderr.write(f"{time.monotonic() - self._began:6.1f} s  {text}\n")
            sys.stderr.flush()
