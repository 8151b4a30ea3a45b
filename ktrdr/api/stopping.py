"""Notices that the server was told to stop, before it waits for what is still open."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def noticed(tell: Callable[[], None]) -> Iterator[None]:
    """Has ``tell`` called in the running loop once the process is told to stop.

    The server's own handlers stay in charge: without them it would never end. They only hear of a
    signal after we did. A server that does not run in the main thread hears of none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {sig: signal.getsignal(sig) for sig in (signal.SIGTERM, signal.SIGINT)}

    def hear(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(tell)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for sig, handler in before.items():
        if callable(handler):
            signal.signal(sig, hear)
    try:
        yield
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)
