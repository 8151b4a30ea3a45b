"""How a deploy goes about its hosts, and what it does where nobody says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Each host costs this machine a connection's worth of processes while it is worked on.
DEFAULT_PARALLEL: Final = 32
# Services may take so long to become healthy (s).
DEFAULT_HEALTH_TIMEOUT_S: Final = 120


@dataclass(frozen=True, slots=True)
class Manner:
    """How hosts are gone about.

    Attributes:
        parallel: How many of them at once.
        serial: Whether worker nodes come one after the other, up to the first that fails.
        restore: Whether a host goes back to its last good release when the new one fails.
        lock_wait_s: How long somebody else's lock is waited for (s).
        drain_s: How long workers may finish what they are at (s); None does not wait.
    """

    parallel: int = DEFAULT_PARALLEL
    serial: bool = False
    restore: bool = True
    lock_wait_s: float = 0.0
    drain_s: float | None = None
