"""Combinations of parameter values that a backtest or a sweep requests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final

from ktrdr.errors import InvalidParameters, did_you_mean
from ktrdr.schemas import BacktestParameters, SweepParameters
from ktrdr.strategies.catalogue import load_strategy
from ktrdr.strategies.document import Parameter, ParameterValue, Strategy
from ktrdr.strategies.rules import evaluate_condition
from ktrdr.strategies.validation import shorten_number

MAX_COMBINATIONS: Final = 1000
# Limit before the constraint is applied, so that the loop over the candidates stays short.
MAX_CANDIDATES: Final = 100_000

Combination = Mapping[str, ParameterValue]


def validate_request(parameters: BacktestParameters, strategies: Path) -> Strategy:
    """Return the strategy of a backtest or a sweep if the strategy allows its parameters.

    Args:
        parameters: Parameters of the backtest or the sweep.
        strategies: Directory of the users' own strategies.

    Raises:
        InvalidParameters: The strategy does not exist or does not allow the parameters.
    """
    strategy = load_strategy(parameters.strategy, strategies)
    list_combinations(strategy, parameters.strategy_parameters)
    return strategy


def list_combinations(strategy: Strategy, requested: Mapping[str, Any]) -> list[Combination]:
    """Return all allowed combinations of the requested values, in ascending order.

    Args:
        strategy: Strategy whose defaults apply to parameters that are not requested.
        requested: A value or several values by parameter name.

    Raises:
        InvalidParameters: A parameter is unknown or out of bounds, no combination satisfies the
            constraint, or there are more than 1000 combinations.
    """
    errors = [
        f"{strategy.name} has no parameter {name}{did_you_mean(name, strategy.parameters)}"
        for name in requested
        if name not in strategy.parameters
    ]
    choices: list[list[ParameterValue]] = []
    for parameter in strategy.parameters.values():
        values = requested.get(parameter.name, parameter.defaults)
        if not isinstance(values, (tuple, list)):
            values = (values,)
        errors += filter(None, (_bounds_error(parameter, value) for value in values))
        if not errors:
            exact = int if parameter.is_integer else float
            choices.append(sorted({exact(value) for value in values}))
    if errors:
        raise InvalidParameters("; ".join(errors), hint=_parameters_hint(strategy))
    return _allowed_combinations(strategy, choices)


def build_backtests(sweep: SweepParameters, strategy: Strategy) -> list[BacktestParameters]:
    """Return the backtests of a sweep: one for each combination, with one value a parameter.

    Raises:
        InvalidParameters: As for `list_combinations`.
    """
    common = sweep.model_dump(exclude={"metric", "strategy_parameters"})
    return [
        BacktestParameters(**common, strategy_parameters=dict(combination))
        for combination in list_combinations(strategy, sweep.strategy_parameters)
    ]


def _allowed_combinations(
    strategy: Strategy, choices: Sequence[Sequence[ParameterValue]]
) -> list[Combination]:
    count = math.prod(map(len, choices))
    if count > MAX_CANDIDATES:
        raise _too_many_combinations(count)
    candidates = (
        dict(zip(strategy.parameters, values, strict=True)) for values in product(*choices)
    )
    constraint = strategy.constraint
    combinations: list[Combination] = [
        candidate
        for candidate in candidates
        if constraint is None or evaluate_condition(constraint, candidate)
    ]
    if not combinations:
        raise InvalidParameters(
            f"no combination of the parameters of {strategy.name} satisfies "
            f"{strategy.source_text['constraint']}",
            hint=_parameters_hint(strategy),
        )
    if len(combinations) > MAX_COMBINATIONS:
        raise _too_many_combinations(len(combinations))
    return combinations


def _too_many_combinations(count: int) -> InvalidParameters:
    return InvalidParameters(
        f"{count:,} combinations of parameters are more than the limit of {MAX_COMBINATIONS:,}",
        hint="Give fewer values.",
    )


def _bounds_error(parameter: Parameter, value: ParameterValue) -> str | None:
    is_within = parameter.minimum <= value <= parameter.maximum
    if is_within and (not parameter.is_integer or float(value).is_integer()):
        return None
    expected = "a whole number" if parameter.is_integer else "a number"
    return (
        f"{parameter.name} must be {expected} from {parameter.minimum:g} to "
        f"{parameter.maximum:g}, not {shorten_number(value)}"
    )


def _parameters_hint(strategy: Strategy) -> str:
    if not strategy.parameters:
        return f"{strategy.name} has no parameters."
    bounds = ", ".join(
        f"{parameter.name} ({parameter.minimum:g} to {parameter.maximum:g})"
        for parameter in strategy.parameters.values()
    )
    constraint = strategy.source_text.get("constraint")
    return f"{strategy.name} takes {bounds}" + (f", with {constraint}." if constraint else ".")
