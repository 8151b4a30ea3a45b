"""Fitness of a running service: the conditions under which it can do its work.

Liveness is apart from it: a process that answers may be unable to work. Background tasks find the
problems, so that evaluating the conditions never waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from ktrdr.errors import HostNotReady, KtrdrError
from ktrdr.schemas import Condition, ErrorDetail

# A task that does something every few seconds is stuck after this time.
STALE_AFTER_S: Final = 10.0
# A task that failed tries again every few seconds.
FAILED_FOR_S: Final = 15.0
# Docker keeps the first 4,096 bytes of a health document.
MAX_TEXT: Final = 300

FindProblem = Callable[[], KtrdrError | None]


class Fitness:
    """Conditions of a service: functions that return a problem or None, most fundamental first."""

    def __init__(
        self, conditions: Mapping[str, FindProblem], record: Callable[[str, bool], None]
    ) -> None:
        self._conditions = conditions
        self._record = record
        self._since: dict[str, tuple[bool, datetime]] = {}

    def evaluate(self) -> tuple[ErrorDetail | None, tuple[Condition, ...]]:
        """Return the first problem, if any, and all conditions."""
        problems = {name: find_problem() for name, find_problem in self._conditions.items()}
        conditions = []
        for name, problem in problems.items():
            state = (problem is None, datetime.now(UTC))
            if self._since.setdefault(name, state)[0] is not state[0]:
                self._since[name] = state
            self._record(name, problem is None)
            text = problem.message[:MAX_TEXT] if problem else None
            conditions.append(Condition(name=name, problem=text, since=self._since[name][1]))
        first = next(filter(None, problems.values()), None)
        if first is None:
            return None, tuple(conditions)
        hint = first.hint[:MAX_TEXT] if first.hint else None
        detail = ErrorDetail(kind=first.kind, message=first.message[:MAX_TEXT], hint=hint)
        return detail, tuple(conditions)


class Progress:
    """Progress of a background task that runs for as long as its service."""

    def __init__(self, name: str, limit_s: float = STALE_AFTER_S) -> None:
        self.name, self._limit_s = name, limit_s
        self._made_at, self._failed_at = time.monotonic(), 0.0
        self._failure = ""

    def made(self) -> None:
        """Record that the task has done its work once more."""
        self._made_at, self._failure = time.monotonic(), ""

    def failed(self, reason: str) -> None:
        """Record that the task failed; it counts until there is progress, or for a while."""
        self._failed_at, self._failure = time.monotonic(), reason

    @property
    def problem(self) -> str:
        """Return why the task does not work; empty if it does."""
        silent_s = time.monotonic() - self._made_at
        if self._failure and time.monotonic() - self._failed_at < FAILED_FOR_S:
            return f"{self.name} failed ({self._failure})"
        return f"{self.name} made no progress for {silent_s:.0f} s" * (silent_s > self._limit_s)


def find_stuck(tasks: Iterable[Progress]) -> HostNotReady | None:
    """Return the problem of the background tasks that do not work, if there are any."""
    reasons = [task.problem for task in tasks if task.problem]
    hint = "If it does not recover, read its log, and restart it with `ktrdr deploy restart`."
    return HostNotReady("; ".join(reasons), hint=hint) if reasons else None
