"""Memory limit of an operation: its process gets a MemoryError instead of being killed."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

# Memory that the worker's own process needs besides the child.
_WORKER_SHARE: Final = 256 * 1024 * 1024
# Files with a container's limit: control groups version 2, then version 1.
_LIMIT_FILES: Final = ("memory.max", "memory/memory.limit_in_bytes")
# Version 1 writes "no limit" as a number close to 2^63.
_NO_LIMIT: Final = 1 << 60


def child_memory_limit(
    configured_mb: int | None, *, control_groups: Path = Path("/sys/fs/cgroup")
) -> int:
    """Return the bytes that an operation's process may use; 0 means no limit.

    Args:
        configured_mb: Configured limit in MiB, or None for the container's limit minus the
            worker's share.
        control_groups: Directory of the kernel's control groups.
    """
    if configured_mb is not None:
        return configured_mb * 1024 * 1024
    for name in _LIMIT_FILES:
        try:
            text = (control_groups / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < _NO_LIMIT:
            return max(int(text) - _WORKER_SHARE, _WORKER_SHARE)
        return 0
    return 0


def limit_memory(limit: int) -> None:
    """Limit this process to ``limit`` bytes, so that it raises `MemoryError` beyond; 0: no limit.

    RLIMIT_DATA (Linux 4.7 and later) counts writable memory, not mapped libraries and files, so the
    limit is close to what the operation itself uses.
    """
    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
