"""Progress output: one line per step, with its duration."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class LabError(Exception):
    """Error of the lab, with a one-sentence message."""


class Progress:
    """Progress lines on standard error; steps may run in parallel."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._lock = threading.Lock()

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Print the beginning of a step, and its duration at the end."""
        started = time.monotonic()
        self.write(f"{title} …")
        yield
        self.write(f"{title}: {time.monotonic() - started:.0f} s")

    def write(self, text: str) -> None:
        """Print a line, with the time since the start."""
        with self._lock:
            sys.stderr.write(f"{time.monotonic() - self._started:6.1f} s  {text}\n")
            sys.stderr.flush()
