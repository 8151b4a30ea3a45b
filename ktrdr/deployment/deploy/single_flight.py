"""Sharing of one call among threads that need its result at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Function whose concurrent callers share one call.

    A caller that arrives during a call shares the next one, so no result is older than the call
    that returns it. Fifty hosts that need the backend's workers do not make it list them fifty
    times.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        """Wrap a function.

        Args:
            function: The function; its errors are raised in all callers that share the call.
        """
        self._function = function
        self._call_lock = threading.Lock()
        # Guards the result of the next call, if a caller waits for one.
        self._next_lock = threading.Lock()
        self._next: Future[T] | None = None

    def __call__(self) -> T:
        """Return the function's result."""
        with self._next_lock:
            is_first = self._next is None
            result = self._next = self._next or Future()
        if is_first:
            with self._call_lock:
                with self._next_lock:
                    self._next = None
                try:
                    result.set_result(self._function())
                except BaseException as error:  # noqa: BLE001  # `result()` raises it, here as well
                    result.set_exception(error)
        return result.result()
