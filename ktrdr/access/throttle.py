"""Throttling of addresses that send too many bad tokens."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from ktrdr.errors import TooManyAttempts

WINDOW_S: Final = 60.0
# Beyond this number the oldest address is forgotten, so that memory is bounded.
MAX_ADDRESSES: Final = 10_000


@dataclass
class AuthenticationThrottle:
    """Failed authentications by address, within a sliding window.

    Attributes:
        max_failures: Number of failures within the window that blocks an address. A worker with
            an expired token makes two to four a minute.
        window_s: Length of the window in seconds.
    """

    max_failures: int
    window_s: float = WINDOW_S
    _failures: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)

    def check(self, address: str, now: float) -> None:
        """Reject an address that has failed too often.

        Args:
            address: Address of the caller.
            now: Monotonic time in seconds.

        Raises:
            TooManyAttempts: The address has failed too often within the window.
        """
        failures = self._failures.get(address)
        if failures is None:
            return
        while failures and failures[0] <= now - self.window_s:
            failures.popleft()
        if not failures:
            del self._failures[address]
        elif len(failures) >= self.max_failures:
            wait_s = failures[0] + self.window_s - now
            raise TooManyAttempts(
                f"{address} has sent {len(failures)} bad tokens within {self.window_s:.0f} s",
                hint=f"Wait {wait_s:.0f} s and use a valid token; `ktrdr token show` checks yours.",
                retry_after_s=wait_s,
            )

    def record_failure(self, address: str, now: float) -> None:
        """Record a failed authentication."""
        failures = self._failures.setdefault(address, deque(maxlen=self.max_failures))
        failures.append(now)
        self._failures.move_to_end(address)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)
