"""The same work on several hosts at once, ended at once when somebody has had enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from ktrdr.deployment.ssh.interface import Transport

MAX_AT_ONCE: Final = 16
_Given = TypeVar("_Given")
_Got = TypeVar("_Got")


def on_each(
    work: Callable[[_Given], _Got], given: Sequence[_Given], transport: Transport
) -> list[_Got]:
    """Does the work for each of what is given, in threads, and gives the results in its order.

    Args:
        work: What to do; it uses the transport.
        given: What to do it for.
        transport: Closed when the wait is interrupted, which ends the scripts that still run.
    """
    with ThreadPoolExecutor(max_workers=MAX_AT_ONCE) as pool:
        try:
            return list(pool.map(work, given))
        except BaseException:
            transport.close()
            raise
