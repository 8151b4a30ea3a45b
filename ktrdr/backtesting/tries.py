"""The backtests that a sweep was divided into, with what came of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ktrdr.backtesting.luck import expected_best
from ktrdr.schemas import SweepParameters
from ktrdr.strategies.document import ParameterValue
from ktrdr.work import Part

Figure = float | int | str | None
# What holding would have had of each metric.
BENCHMARKS: Final = {
    "sharpe": "benchmark_sharpe",
    "sortino": "benchmark_sortino",
    "cagr": "benchmark_cagr",
    "total_return": "benchmark_return",
    "max_drawdown": "benchmark_max_drawdown",
}


@dataclass(frozen=True)
class Try:
    """One combination of parameters, and what came of it.

    Attributes:
        summary: Its figures; empty if it did not complete.
        error: Why it did not complete, or None.
    """

    operation_id: str
    values: Mapping[str, ParameterValue]
    summary: Mapping[str, Figure]
    error: str | None

    def figure(self, name: str) -> float | None:
        """A figure, if it has it and it is a number."""
        found = self.summary.get(name)
        return found if isinstance(found, (int, float)) else None


@dataclass(frozen=True)
class Tries:
    """All of them; the metric is such that more is better."""

    parameters: SweepParameters
    every: Sequence[Try]

    @property
    def completed(self) -> list[Try]:
        """Those that have figures."""
        return [each for each in self.every if each.error is None]

    @property
    def failed(self) -> list[Try]:
        """The others."""
        return [each for each in self.every if each.error is not None]

    def metric_of(self, each: Try) -> float | None:
        """What tries are compared by."""
        return each.figure(self.parameters.metric)

    def ranked(self) -> list[Try]:
        """The completed ones, the best first; where the metric is not defined, last."""

        def rank(each: Try) -> tuple[bool, float]:
            value = self.metric_of(each)
            return value is None, -(value or 0.0)

        return sorted(self.completed, key=rank)

    def benchmark(self) -> float | None:
        """The metric of buying and holding, which is the same for all."""
        return self.completed[0].figure(BENCHMARKS[self.parameters.metric])

    def sharpes(self) -> list[float]:
        """The Sharpe ratios that are defined."""
        return _numbers(each.figure("sharpe") for each in self.completed)

    def luck(self) -> float | None:
        """The Sharpe ratio expected of the best of as many tries without skill."""
        return expected_best(self.sharpes())

    def names(self) -> list[str]:
        """The parameters, in the order of the strategy."""
        return list(self.every[0].values)

    def values_of(self, name: str) -> list[ParameterValue]:
        """What was tried of a parameter, in ascending order."""
        return sorted({each.values[name] for each in self.every})

    def differing(self, name: str) -> bool:
        """Whether the tries were made from different things, such as data imported meanwhile."""
        return len({each.summary.get(name) for each in self.completed}) > 1


def tries_of(parameters: SweepParameters, parts: Iterable[Part]) -> Tries:
    """The parts of a sweep as tries."""
    return Tries(
        parameters,
        [
            Try(
                part.operation_id,
                dict(part.parameters["strategy_parameters"]),
                part.summary or {},
                None if part.summary is not None else part.error or "it has no results",
            )
            for part in parts
        ],
    )


def _numbers(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
