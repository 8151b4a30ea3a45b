"""One answer for all who ask the same at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """A question that several threads have; whoever comes while it is asked shares the next answer.

    So no answer is older than the call that gets it, and fifty hosts that ask for the backend's
    workers do not make it list them fifty times.
    """

    def __init__(self, ask: Callable[[], T]) -> None:
        """Asks nothing yet.

        Args:
            ask: Asks; what it raises is raised in all who share it.
        """
        self._ask = ask
        self._asking = threading.Lock()
        # Guards the answer that is still to be asked for, if anybody waits for one.
        self._joining = threading.Lock()
        self._next: Future[T] | None = None

    def __call__(self) -> T:
        """The answer."""
        with self._joining:
            is_first = self._next is None
            answer = self._next = self._next or Future()
        if is_first:
            with self._asking:
                with self._joining:
                    self._next = None
                try:
                    answer.set_result(self._ask())
                except BaseException as error:  # noqa: BLE001  # `result` raises it, here as well
                    answer.set_exception(error)
        return answer.result()
