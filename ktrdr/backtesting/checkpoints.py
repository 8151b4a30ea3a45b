"""What an earlier attempt at a backtest has chosen, as far as it can still be used."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ktrdr.backtesting.walkforward import Choice, Fold
from ktrdr.strategies.grid import Combination
from ktrdr.work import Checkpoint

logger = logging.getLogger(__name__)

_KEYS: Final = {"made_from", "choices"}


def state_of(choices: Sequence[Choice], made_from: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint holds."""
    return {
        "made_from": dict(made_from),
        "choices": [
            {"parameters": dict(choice.parameters), "sharpe": choice.sharpe} for choice in choices
        ],
    }


def resumed_choices(
    point: Checkpoint | None,
    made_from: Mapping[str, Any],
    folds: Sequence[Fold],
    combinations: Sequence[Combination],
) -> list[Choice]:
    """The choices of the folds that were done; none if anything about the checkpoint is odd.

    Starting over costs time and nothing else: a backtest ends the same either way. So whatever was
    chosen from other data, by another strategy, model, release or library, or cannot be read, is
    left aside, and the log says why.
    """
    if point is None:
        return []
    fault = _fault_of(point, made_from, folds, combinations)
    if fault:
        logger.warning("starting over: %s", fault)
        return []
    return [Choice(**choice) for choice in point.state["choices"]]


def _fault_of(
    point: Checkpoint,
    made_from: Mapping[str, Any],
    folds: Sequence[Fold],
    combinations: Sequence[Combination],
) -> str | None:
    state = point.state
    if set(state) != _KEYS or not isinstance(state["choices"], list):
        return "the checkpoint is not one of this release"
    if state["made_from"] != made_from:
        return "the checkpoint was made from other data or by other code"
    if len(state["choices"]) != point.step or point.step > len(folds):
        return "the checkpoint does not hold as many folds as it says"
    allowed = [dict(each) for each in combinations]
    for choice in state["choices"]:
        if not isinstance(choice, Mapping) or set(choice) != {"parameters", "sharpe"}:
            return "the checkpoint holds a choice that cannot be read"
        if choice["parameters"] not in allowed or not _is_finite(choice["sharpe"]):
            return "the checkpoint holds a choice that could not have been made"
    return None


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)
