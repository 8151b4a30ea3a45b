"""Looks at the parameters of work before it is accepted, and divides sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ktrdr.schemas import BacktestParameters, OperationParameters, SweepParameters
from ktrdr.strategies.catalogue import find_features
from ktrdr.strategies.grid import check, parts_of


def divide_work(strategies: Path, parameters: OperationParameters) -> Sequence[BacktestParameters]:
    """The parts of a sweep; other work stays whole.

    Args:
        strategies: The directory of the users' own strategies.
        parameters: What is to be done.

    Raises:
        InvalidParameters: There is no such strategy, or its parameters do not fit it.
    """
    if isinstance(parameters, SweepParameters):
        return parts_of(parameters, check(parameters, strategies))
    if isinstance(parameters, BacktestParameters):
        check(parameters, strategies)
    else:
        find_features(parameters.features, strategies)
    return ()
