"""Which values of a strategy's parameters a request asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final

from ktrdr.errors import InvalidParameters, did_you_mean
from ktrdr.schemas import BacktestParameters, SweepParameters
from ktrdr.strategies.catalogue import find
from ktrdr.strategies.document import Parameter, Strategy, Value
from ktrdr.strategies.faults import in_short
from ktrdr.strategies.rules import truth_of

MAX_COMBINATIONS: Final = 1000
# Before the constraint is looked at; the loop over them must end in no time.
MAX_CANDIDATES: Final = 100_000

Combination = Mapping[str, Value]


def check(parameters: BacktestParameters, strategies: Path) -> Strategy:
    """The strategy that a backtest or a sweep asks for, if it can be run as asked.

    Args:
        parameters: The request.
        strategies: The directory of the users' own strategies.

    Raises:
        InvalidParameters: There is no such strategy, or its parameters do not allow this.
    """
    strategy = find(parameters.strategy, strategies)
    combinations(strategy, parameters.strategy_parameters)
    return strategy


def combinations(strategy: Strategy, given: Mapping[str, Any]) -> list[Combination]:
    """Every combination of the values asked for that the strategy allows, in ascending order.

    Args:
        strategy: Its defaults stand in for what is not asked for.
        given: A value, or several, by the parameter's name.

    Raises:
        InvalidParameters: A parameter is unknown or out of bounds, no combination is allowed, or
            there are more than 1000.
    """
    faults = [
        f"{name} is no parameter of {strategy.name}{did_you_mean(name, strategy.parameters)}"
        for name in given
        if name not in strategy.parameters
    ]
    choices: list[list[Value]] = []
    for parameter in strategy.parameters.values():
        values = _values(given.get(parameter.name, parameter.defaults))
        faults += [_out_of_bounds(parameter, each) for each in values if not _fits(parameter, each)]
        if not faults:
            choices.append(sorted({_exact(parameter, each) for each in values}))
    if faults:
        raise InvalidParameters("; ".join(faults), hint=_bounds(strategy))
    return _allowed(strategy, choices)


def parts_of(sweep: SweepParameters, strategy: Strategy) -> list[BacktestParameters]:
    """The backtests that a sweep is made of: one a combination, each with nothing to choose.

    Raises:
        InvalidParameters: As for `combinations`.
    """
    common = sweep.model_dump(exclude={"metric", "strategy_parameters"})
    return [
        BacktestParameters(**common, strategy_parameters=dict(each))
        for each in combinations(strategy, sweep.strategy_parameters)
    ]


def _allowed(strategy: Strategy, choices: Sequence[Sequence[Value]]) -> list[Combination]:
    candidates = 1
    for values in choices:
        candidates *= len(values)
    if candidates > MAX_CANDIDATES:
        raise _too_many(f"{candidates:,} combinations of parameters")
    every: list[Combination] = [
        dict(zip(strategy.parameters, each, strict=True)) for each in product(*choices)
    ]
    found = [each for each in every if _satisfies(strategy, each)]
    if not found:
        raise InvalidParameters(
            f"no combination of the parameters of {strategy.name} has "
            f"{strategy.shown['constraint']}",
            hint=_bounds(strategy),
        )
    if len(found) > MAX_COMBINATIONS:
        raise _too_many(f"{len(found):,} combinations of parameters")
    return found


def _too_many(what: str) -> InvalidParameters:
    return InvalidParameters(
        f"{what} are too many, of {MAX_COMBINATIONS:,} at most", hint="Give fewer values."
    )


def _satisfies(strategy: Strategy, values: Combination) -> bool:
    return strategy.constraint is None or bool(truth_of(strategy.constraint, values))


def _values(given: Any) -> Sequence[Value]:
    return given if isinstance(given, (tuple, list)) else (given,)


def _fits(parameter: Parameter, value: Value) -> bool:
    within = parameter.minimum <= value <= parameter.maximum
    return within and (not parameter.integer or float(value).is_integer())


def _exact(parameter: Parameter, value: Value) -> Value:
    return int(value) if parameter.integer else float(value)


def _out_of_bounds(parameter: Parameter, value: Value) -> str:
    kind = "a whole number" if parameter.integer else "a number"
    return (
        f"{parameter.name} must be {kind} from {parameter.minimum:g} to {parameter.maximum:g}, "
        f"not {in_short(value)}"
    )


def _bounds(strategy: Strategy) -> str:
    if not strategy.parameters:
        return f"{strategy.name} has no parameters."
    listed = ", ".join(
        f"{each.name} ({each.minimum:g} to {each.maximum:g})"
        for each in strategy.parameters.values()
    )
    constraint = strategy.shown.get("constraint")
    return f"{strategy.name} takes {listed}" + (f", with {constraint}." if constraint else ".")
