"""Times that were taken, and what may be said of them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Samples:
    """Durations of one thing, in seconds, in the order they were taken."""

    seconds: Sequence[float]

    def percentile(self, share: float) -> float:
        """The least of them that at least ``share`` (0 to 1) of them do not exceed, in ms."""
        ordered = sorted(self.seconds)
        return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] * 1000

    @property
    def row(self) -> list[str]:
        """Number, then min, p50, p99 and max in milliseconds, as a table shows them."""
        figures = (0.0, 0.5, 0.99, 1.0)
        return [str(len(self.seconds)), *(f"{self.percentile(share):.1f}" for share in figures)]


ROW_TITLES = ("n", "min ms", "p50 ms", "p99 ms", "max ms")
SPREAD_TITLES = ("n", "min", "median", "max")


def spread(figures: Sequence[float], form: str) -> list[str]:
    """A few figures as a table shows them, each in the given format."""
    shown = (min(figures), statistics.median(figures), max(figures))
    return [str(len(figures)), *(format(figure, form) for figure in shown)]


@dataclass(frozen=True)
class Goal:
    """A figure that was promised, and what it is."""

    what: str
    limit: float
    measured: float
    unit: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the promise is kept."""
        if self.at_least:
            return self.measured >= self.limit
        return self.measured <= self.limit


@dataclass
class Outcome:
    """What one measurement found.

    Attributes:
        title: What was measured.
        columns: The titles of the table's columns; the first column is words.
        rows: The table.
        goals: What was promised about it.
        notes: What a reader must know to understand the figures.
    """

    title: str
    columns: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def ratio(one: Samples, other: Samples) -> float:
    """How the medians compare."""
    return one.percentile(0.5) / other.percentile(0.5)
