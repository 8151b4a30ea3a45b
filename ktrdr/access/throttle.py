"""Holds up those who try tokens until one fits."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from ktrdr.errors import TooManyAttempts

WINDOW_S: Final = 60.0
# Addresses are remembered up to this number, the oldest forgotten first, so that memory is bounded.
MAX_ADDRESSES: Final = 10_000


@dataclass
class FailedAttempts:
    """Failed authentications by address, within a sliding window.

    Attributes:
        max_failures: So many within the window are too many. A node's three workers with an expired
            token come to six a minute together.
        window_s: Its length in seconds.
    """

    max_failures: int
    window_s: float = WINDOW_S
    _failures: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)

    def check(self, address: str, now: float) -> None:
        """Lets an address try.

        Args:
            address: Whose turn it is.
            now: A monotonic time, in seconds.

        Raises:
            TooManyAttempts: It has failed too often of late.
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
                hint=f"Wait {wait_s:.0f} s and use a good one; `ktrdr token show` looks at yours.",
                retry_after_s=wait_s,
            )

    def failed(self, address: str, now: float) -> None:
        """Notes a failure."""
        failures = self._failures.setdefault(address, deque(maxlen=self.max_failures))
        failures.append(now)
        self._failures.move_to_end(address)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)
