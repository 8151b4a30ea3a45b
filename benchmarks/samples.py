"""Samples of durations, statistics of them, and goals."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Samples:
    """Measured durations in seconds, in order of measurement."""

    seconds: Sequence[float]

    def percentile(self, share: float) -> float:
        """Return the smallest duration (ms) that at least ``share`` (0 to 1) do not exceed."""
        ordered = sorted(self.seconds)
        return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] * 1000

    @property
    def row(self) -> list[str]:
        """Table cells: number, then min, p50, p99 and max in milliseconds."""
        figures = (0.0, 0.5, 0.99, 1.0)
        return [str(len(self.seconds)), *(f"{self.percentile(share):.1f}" for share in figures)]


ROW_TITLES = ("n", "min ms", "p50 ms", "p99 ms", "max ms")
SPREAD_TITLES = ("n", "min", "median", "max")


def spread(figures: Sequence[float], form: str) -> list[str]:
    """Return table cells: number, minimum, median and maximum of figures in the given format."""
    shown = (min(figures), statistics.median(figures), max(figures))
    return [str(len(figures)), *(format(figure, form) for figure in shown)]


@dataclass(frozen=True)
class Goal:
    """Goal for a figure, with the measured value."""

    what: str
    limit: float
    measured: float
    unit: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        """True if the goal is met."""
        if self.at_least:
            return self.measured >= self.limit
        return self.measured <= self.limit


@dataclass
class Outcome:
    """Result of a measurement.

    Attributes:
        title: Title of the table.
        columns: Titles of the columns; the first column contains descriptions.
        rows: Rows of the table.
        goals: Goals of the measurement.
        notes: Remarks that are necessary to understand the figures.
    """

    title: str
    columns: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def timed(work: Callable[[], object]) -> float:
    """Return the duration of a call in seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def ratio(one: Samples, other: Samples) -> float:
    """Return the ratio of two medians."""
    return one.percentile(0.5) / other.percentile(0.5)
