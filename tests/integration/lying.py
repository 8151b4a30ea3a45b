"""Backend and worker that become unable to work at SIGUSR1, in the way that LIE names."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from fastapi import FastAPI

from ktrdr.api import main
from ktrdr.database import probe
from ktrdr.fleet.health import WorkerHealthChecker
from ktrdr.operations import shared_directory
from ktrdr.workers import training as training_worker


def _block() -> None:
    time.sleep(60)


def _change_clock() -> None:
    probe._now = lambda: datetime.now(UTC) + timedelta(minutes=10)


def _hang_directory() -> None:
    def hang(file: Path) -> str:  # its signature
        time.sleep(60)
        return ""

    shared_directory._read_mark = hang


def _end_feed() -> None:
    for task in asyncio.all_tasks():
        frame = getattr(task.get_coro(), "cr_frame", None)
        progress = frame.f_locals.get("progress") if frame else None
        if getattr(progress, "name", "") == "the feed of changes":
            task.cancel()


def _break_checks() -> None:
    async def fail(self: WorkerHealthChecker, now: datetime) -> None:  # its signature
        raise RuntimeError("no socket")

    WorkerHealthChecker.check_all = fail  # type: ignore[method-assign]


def _break_children() -> None:
    sys.executable = "/nonexistent"


LIES: Final[dict[str, Callable[[], None]]] = {
    "block": _block,
    "clock": _change_clock,
    "hang": _hang_directory,
    "feed": _end_feed,
    "checks": _break_checks,
    "children": _break_children,
}


def _arm() -> None:
    lie = LIES[os.environ["LIE"]]
    signal.signal(signal.SIGUSR1, lambda *_: lie())


def backend() -> FastAPI:
    """Create a backend."""
    _arm()
    return main.app()


def training() -> FastAPI:
    """Create a training worker."""
    _arm()
    return training_worker.app()
