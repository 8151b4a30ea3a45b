"""Looks at the parameters of work before it is accepted, and divides sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ktrdr.schemas import BacktestParameters, OperationParameters, SweepParameters
from ktrdr.strategies.catalogue import load_feature_set
from ktrdr.strategies.grid import build_backtests, validate_request


def divide_work(strategies: Path, parameters: OperationParameters) -> Sequence[BacktestParameters]:
    """The parts of a sweep; other work stays whole.

    Args:
        strategies: The directory of the users' own strategies.
        parameters: What is to be done.

    Raises:
        InvalidParameters: There is no such strategy, or its parameters do not fit it.
    """
    if isinstance(parameters, SweepParameters):
        return build_backtests(parameters, validate_request(parameters, strategies))
    if isinstance(parameters, BacktestParameters):
        validate_request(parameters, strategies)
    else:
        load_feature_set(parameters.features, strategies)
    return ()
