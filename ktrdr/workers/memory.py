"""How much memory an operation may use: its process is refused more instead of being killed."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

# What the worker's own process needs beside the one that computes.
_KEPT_FOR_WORKER: Final = 256 * 1024 * 1024
# Where a container sees its limit: control groups of the second kind, and of the first.
_LIMITS: Final = ("memory.max", "memory/memory.limit_in_bytes")
# "No limit" of the first kind is a number close to 2^63.
_NO_LIMIT: Final = 1 << 60


def allowance(configured_mb: int | None, *, control_groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that an operation's process may use; 0 where nothing limits it.

    Args:
        configured_mb: What the settings say, or None for what the container's limit leaves.
        control_groups: Where the kernel shows the container's limit.
    """
    if configured_mb is not None:
        return configured_mb * 1024 * 1024
    for name in _LIMITS:
        try:
            text = (control_groups / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < _NO_LIMIT:
            return max(int(text) - _KEPT_FOR_WORKER, _KEPT_FOR_WORKER)
        return 0
    return 0


def limit(allowed: int) -> None:
    """Lets this process have so many bytes of memory, and a `MemoryError` instead of any more.

    Counted is what a process can write to (RLIMIT_DATA, Linux 4.7 and later): mapped libraries and
    files are not, so that the figure is close to what the work itself takes.
    """
    if allowed:
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
