"""Watching operations while the backend restarts."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest

from ktrdr.cli import operation_progress
from ktrdr.client.backend import BackendClient
from ktrdr.errors import HostUnreachable, Interrupted
from ktrdr.schemas import Operation, OperationEvent, OperationStatus, OperationType

OPERATION = "op_backtest_20261123_164500_1a2b3c4d"


class RestartingBackend:
    """Stand-in for a backend whose streams break without an event, hours apart."""

    def __init__(self, breaks: int, clock: list[float], *, returns: bool) -> None:
        self.breaks = breaks
        self._clock = clock
        self._returns = returns

    def stream_events(self, operation_id: str, *, after: int = 0) -> Iterator[OperationEvent]:
        if self.breaks:
            self.breaks -= 1
            self._clock[0] += 10_000
            raise HostUnreachable(f"{operation_id} is lost after {after}")
        yield from ()

    def get_operation(self, operation_id: str) -> Operation:
        if not self._returns:
            raise HostUnreachable("the backend refuses connections")
        return Operation(
            operation_id=operation_id,
            operation_type=OperationType.BACKTEST,
            status=OperationStatus.COMPLETED,
            parameters={},
            progress=1.0,
            progress_message=None,
            worker_id=None,
            attempt=1,
            submitted_by="ada",
            created_at=datetime(2026, 11, 23, tzinfo=UTC),
            started_at=None,
            finished_at=None,
            cancel_requested_at=None,
            error=None,
            trace_id=None,
        )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    stand_in = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    monkeypatch.setattr(operation_progress, "time", stand_in)
    return now


def test_each_short_outage_counts_alone_even_if_no_event_came_between(clock: list[float]) -> None:
    backend = RestartingBackend(3, clock, returns=True)
    (ended,) = operation_progress.watch_until_final(cast("BackendClient", backend), [OPERATION])
    assert ended.status is OperationStatus.COMPLETED
    assert backend.breaks == 0


def test_an_outage_that_lasts_too_long_ends_the_command(clock: list[float]) -> None:
    backend = RestartingBackend(1, clock, returns=False)
    started = clock[0]
    with pytest.raises(HostUnreachable):
        operation_progress.watch_until_final(cast("BackendClient", backend), [OPERATION])
    assert clock[0] - started > operation_progress.MAX_OUTAGE_S


class SilentBackend(RestartingBackend):
    """Stand-in for a backend whose streams are silent until the test ends."""

    def __init__(self) -> None:
        super().__init__(0, [0.0], returns=True)
        self.ended = threading.Event()

    def stream_events(self, operation_id: str, *, after: int = 0) -> Iterator[OperationEvent]:
        # The main thread waits by then, or soon: a signal that comes earlier counts as well.
        os.kill(os.getpid(), signal.SIGINT)
        self.ended.wait(30)
        yield from ()


def test_ctrl_c_is_heard_although_the_stream_is_silent_and_says_what_goes_on() -> None:
    backend = SilentBackend()
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    began = time.monotonic()
    try:
        with pytest.raises(Interrupted) as interrupted:
            operation_progress.watch_until_final(cast("BackendClient", backend), [OPERATION])
    finally:
        signal.signal(signal.SIGINT, handler)
        backend.ended.set()
    assert time.monotonic() - began < 5
    assert interrupted.value.message == "the wait was interrupted, and it goes on"
    assert interrupted.value.hint == (
        f"Watch with `ktrdr operations watch {OPERATION}`, or stop with "
        f"`ktrdr operations cancel {OPERATION}`."
    )
