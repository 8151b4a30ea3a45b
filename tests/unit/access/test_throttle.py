"""Whoever tries tokens is held up, and nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.access.throttle import MAX_ADDRESSES, FailedAttempts
from ktrdr.errors import TooManyAttempts


def test_an_address_that_failed_too_often_waits_and_another_does_not() -> None:
    attempts = FailedAttempts(max_failures=3, window_s=60)
    for second in range(3):
        attempts.check("10.0.0.1", second)
        attempts.failed("10.0.0.1", second)
    with pytest.raises(TooManyAttempts, match=r"10\.0\.0\.1 has sent 3 bad tokens") as caught:
        attempts.check("10.0.0.1", 10)
    assert caught.value.retry_after_s == 50
    attempts.check("10.0.0.2", 10)
    attempts.check("10.0.0.1", 60.5)


def test_memory_is_bounded_however_many_addresses_try() -> None:
    attempts = FailedAttempts(max_failures=1)
    for number in range(MAX_ADDRESSES + 50):
        attempts.failed(f"address {number}", 0)
    attempts.check("address 0", 1)
    with pytest.raises(TooManyAttempts):
        attempts.check(f"address {MAX_ADDRESSES + 49}", 1)


@given(st.lists(st.floats(0, 30), max_size=60))
def test_within_a_window_no_more_get_through_than_may_fail(pauses: list[float]) -> None:
    attempts, now, let_through = FailedAttempts(max_failures=5, window_s=60), 0.0, []
    for pause in pauses:
        now += pause
        try:
            attempts.check("a", now)
        except TooManyAttempts:
            continue
        attempts.failed("a", now)
        let_through.append(now)
    for moment in let_through:
        assert sum(moment <= other < moment + 60 for other in let_through) <= 5
