"""Throttling blocks an address that tries tokens, and no other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.access.throttle import MAX_ADDRESSES, AuthenticationThrottle
from ktrdr.errors import TooManyAttempts


def test_an_address_with_too_many_failures_is_blocked_and_another_is_not() -> None:
    throttle = AuthenticationThrottle(max_failures=3, window_s=60)
    for second in range(3):
        throttle.check("10.0.0.1", second)
        throttle.record_failure("10.0.0.1", second)
    with pytest.raises(TooManyAttempts, match=r"10\.0\.0\.1 has sent 3 bad tokens") as caught:
        throttle.check("10.0.0.1", 10)
    assert caught.value.retry_after_s == 50
    throttle.check("10.0.0.2", 10)
    throttle.check("10.0.0.1", 60.5)


def test_memory_is_bounded_however_many_addresses_try() -> None:
    throttle = AuthenticationThrottle(max_failures=1)
    for number in range(MAX_ADDRESSES + 50):
        throttle.record_failure(f"address {number}", 0)
    throttle.check("address 0", 1)
    with pytest.raises(TooManyAttempts):
        throttle.check(f"address {MAX_ADDRESSES + 49}", 1)


@given(st.lists(st.floats(0, 30), max_size=60))
def test_within_a_window_no_more_attempts_pass_than_may_fail(pauses: list[float]) -> None:
    throttle, now, passed = AuthenticationThrottle(max_failures=5, window_s=60), 0.0, []
    for pause in pauses:
        now += pause
        try:
            throttle.check("a", now)
        except TooManyAttempts:
            continue
        throttle.record_failure("a", now)
        passed.append(now)
    for moment in passed:
        assert sum(moment <= other < moment + 60 for other in passed) <= 5
