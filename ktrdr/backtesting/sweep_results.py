"""Results of a sweep: one trial for each combination of parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ktrdr.backtesting.statistics import expected_max_sharpe
from ktrdr.schemas import SweepParameters
from ktrdr.strategies.document import ParameterValue
from ktrdr.work import ChildResult

SummaryValue = float | int | str | None
# Keys of the benchmark's values in a backtest's summary.
BENCHMARK_KEYS: Final = {
    "sharpe": "benchmark_sharpe",
    "sortino": "benchmark_sortino",
    "cagr": "benchmark_cagr",
    "total_return": "benchmark_return",
    "max_drawdown": "benchmark_max_drawdown",
}


@dataclass(frozen=True)
class Trial:
    """Backtest of one combination of parameters.

    Attributes:
        summary: Summary of the backtest, empty if it failed.
        error: Reason of the failure, or None.
    """

    operation_id: str
    values: Mapping[str, ParameterValue]
    summary: Mapping[str, SummaryValue]
    error: str | None

    def number(self, key: str) -> float | None:
        """Return a value of the summary, or None if it is missing or not a number."""
        value = self.summary.get(key)
        return value if isinstance(value, (int, float)) else None


@dataclass(frozen=True)
class Trials:
    """All trials of a sweep, compared by a metric of which more is better."""

    parameters: SweepParameters
    trials: Sequence[Trial]

    @classmethod
    def from_children(cls, parameters: SweepParameters, children: Iterable[ChildResult]) -> Trials:
        """Return the child operations of a sweep as trials."""
        return cls(
            parameters,
            [
                Trial(
                    child.operation_id,
                    dict(child.parameters["strategy_parameters"]),
                    child.summary or {},
                    None if child.summary is not None else child.error or "it has no results",
                )
                for child in children
            ],
        )

    @property
    def completed(self) -> list[Trial]:
        """Trials whose backtest completed."""
        return [trial for trial in self.trials if trial.error is None]

    @property
    def failed(self) -> list[Trial]:
        """Trials whose backtest did not complete."""
        return [trial for trial in self.trials if trial.error is not None]

    def metric_of(self, trial: Trial) -> float | None:
        """Return the trial's value of the sweep's metric."""
        return trial.number(self.parameters.metric)

    def ranked(self) -> list[Trial]:
        """Return the completed trials, best first, those without a metric last."""

        def rank(trial: Trial) -> tuple[bool, float]:
            value = self.metric_of(trial)
            return value is None, -(value or 0.0)

        return sorted(self.completed, key=rank)

    def benchmark_metric(self) -> float | None:
        """Return the metric of buy and hold, which is equal for all trials."""
        return self.completed[0].number(BENCHMARK_KEYS[self.parameters.metric])

    def sharpe_ratios(self) -> list[float]:
        """Return the Sharpe ratios of the trials that have one."""
        ratios = (trial.number("sharpe") for trial in self.completed)
        return [ratio for ratio in ratios if ratio is not None]

    def expected_max_sharpe(self) -> float | None:
        """Return the best Sharpe ratio that as many trials without skill would reach."""
        return expected_max_sharpe(self.sharpe_ratios())

    def parameter_names(self) -> list[str]:
        """Return the names of the parameters, in the order of the strategy."""
        return list(self.trials[0].values)

    def values_of(self, name: str) -> list[ParameterValue]:
        """Return the values of a parameter in ascending order."""
        return sorted({trial.values[name] for trial in self.trials})

    def has_differing(self, key: str) -> bool:
        """Return whether a summary value differs, for example after an import of new data."""
        return len({trial.summary.get(key) for trial in self.completed}) > 1
