"""Checkpoints of backtests: the parameters chosen for the folds so far."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ktrdr.backtesting.walkforward import Fold, ParameterChoice
from ktrdr.strategies.grid import Combination
from ktrdr.work import Checkpoint

logger = logging.getLogger(__name__)

_KEYS: Final = {"made_from", "choices"}


def checkpoint_state(
    choices: Sequence[ParameterChoice], made_from: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the state of a checkpoint, for JSON."""
    return {
        "made_from": dict(made_from),
        "choices": [
            {"parameters": dict(choice.parameters), "sharpe": choice.sharpe} for choice in choices
        ],
    }


def choices_from_checkpoint(
    checkpoint: Checkpoint | None,
    made_from: Mapping[str, Any],
    folds: Sequence[Fold],
    combinations: Sequence[Combination],
) -> list[ParameterChoice]:
    """Return the choices of the completed folds, or none if the checkpoint does not fit.

    Starting over costs only time: a backtest ends the same either way. So a checkpoint that cannot
    be read, or that was made from other data or with another strategy, model, release or library,
    is ignored, and the log says why.
    """
    if checkpoint is None:
        return []
    reason = _rejection_reason(checkpoint, made_from, folds, combinations)
    if reason:
        logger.warning("starting over: the checkpoint %s", reason)
        return []
    return [ParameterChoice(**choice) for choice in checkpoint.state["choices"]]


def _rejection_reason(
    checkpoint: Checkpoint,
    made_from: Mapping[str, Any],
    folds: Sequence[Fold],
    combinations: Sequence[Combination],
) -> str | None:
    state = checkpoint.state
    if set(state) != _KEYS or not isinstance(state["choices"], list):
        return "was written by another release"
    if state["made_from"] != made_from:
        return "was made from other data or by other code"
    if len(state["choices"]) != checkpoint.step or checkpoint.step > len(folds):
        return "contains a different number of folds than it states"
    allowed = [dict(combination) for combination in combinations]
    for choice in state["choices"]:
        if not isinstance(choice, Mapping) or set(choice) != {"parameters", "sharpe"}:
            return "contains a choice that cannot be read"
        sharpe = choice["sharpe"]
        is_finite = isinstance(sharpe, float) and math.isfinite(sharpe)
        if choice["parameters"] not in allowed or not is_finite:
            return "contains an invalid choice of parameters"
    return None
