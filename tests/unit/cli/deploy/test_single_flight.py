"""Many threads that need the same result at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from ktrdr.cli.deploy.execution import SingleFlight
from ktrdr.errors import HostUnreachable
from tests.integration.sshd import wait_until


class ControlledFunction:
    """Function that counts its calls, and returns when the test allows it.

    Attributes:
        calls: Number of calls so far; each returns its number, and the third fails.
        may_return: Released once for each call that may return.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.may_return = threading.Semaphore(0)

    def __call__(self) -> int:
        self.calls += 1
        number = self.calls
        assert self.may_return.acquire(timeout=10)
        if number == 3:
            raise HostUnreachable("the third call failed")
        return number


def start_callers(
    flight: SingleFlight[int], count: int, pool: ThreadPoolExecutor
) -> list[Future[int]]:
    """Start so many callers, and wait until all of them call."""
    entered = threading.Semaphore(0)

    def call() -> int:
        entered.release()
        return flight()

    results = [pool.submit(call) for _ in range(count)]
    for _ in results:
        assert entered.acquire(timeout=10)
    return results


def test_callers_that_arrive_during_a_call_share_the_next_one() -> None:
    function = ControlledFunction()
    flight = SingleFlight(function)
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(flight)
        wait_until(lambda: function.calls == 1, "the first call starts")
        others = start_callers(flight, 10, pool)
        # The first call started before they arrived, so they must not share its result.
        function.may_return.release()
        assert first.result(10) == 1
        wait_until(lambda: function.calls == 2, "the second call starts")
        for _ in range(10):
            function.may_return.release()
        results = [other.result(10) for other in others]
    assert set(results) >= {2}
    assert 1 not in results


def test_a_caller_that_arrives_after_a_call_starts_another() -> None:
    function = ControlledFunction()
    flight = SingleFlight(function)
    function.may_return.release(2)
    assert (flight(), flight()) == (1, 2)


def test_an_error_is_raised_in_all_callers_that_share_the_call() -> None:
    function = ControlledFunction()
    function.calls = 1
    flight = SingleFlight(function)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(flight)
        wait_until(lambda: function.calls == 2, "the second call starts")
        second = pool.submit(flight)
        function.may_return.release(2)
        assert first.result(10) == 2
        with pytest.raises(HostUnreachable, match="the third call failed"):
            second.result(10)
    function.may_return.release()
    assert flight() == 4, "the next caller starts another call"
