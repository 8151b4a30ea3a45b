"""Reads a strategy's YAML; every fault is named with its line, all of them at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final

from ktrdr.errors import InvalidParameters, did_you_mean
from ktrdr.schemas import NAME_PATTERN
from ktrdr.strategies.document import (
    Costs,
    Definition,
    FeatureSet,
    Parameter,
    Strategy,
    Template,
)
from ktrdr.strategies.faults import HINT, Faults
from ktrdr.strategies.kinds import SIZINGS
from ktrdr.strategies.rule_text import PRICES, RESERVED, RuleFault, read_rule
from ktrdr.strategies.rules import Condition, Constant, names_of
from ktrdr.strategies.templates import read_indicator, read_template
from ktrdr.yaml_source import KeyPath, YamlFault, read_yaml

MAX_BYTES: Final = 64 * 1024
MAX_PARAMETERS: Final = 12
MAX_INDICATORS: Final = 64
MAX_DEFAULTS: Final = 100
MAX_DESCRIPTION: Final = 2000
MAX_NUMBER: Final = 1e9
MAX_COST: Final = 0.0999

KEYS: Final = (
    "name",
    "description",
    "parameters",
    "constraint",
    "indicators",
    "entry",
    "exit",
    "costs",
    "sizing",
)
_IDENTIFIER: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


@lru_cache(maxsize=64)
def read_strategy(text: str, shown_as: str) -> Strategy:
    """The strategy that a YAML text says.

    Args:
        text: The document.
        shown_as: What faults call it, before the line.

    Raises:
        InvalidParameters: All that is wrong with it.
    """
    faults, data = _opened(text, shown_as)
    given = faults.keys((), data, KEYS, required=("name", "entry", "exit"))
    name = _name(faults, given)
    declared = _parameters(faults, given.get("parameters"))
    indicators = _indicators(faults, given.get("indicators"), declared)
    sizing = _sizing(faults, given.get("sizing", "all_in"), declared)
    constraint = _constraint(faults, given.get("constraint"), declared)
    known = {*PRICES, *declared, *indicators}
    rules = {
        key: _rule(faults, key, given[key], known) for key in ("entry", "exit") if key in given
    }
    costs = _costs(faults, given.get("costs"))
    description = faults.text(("description",), given.get("description", ""), MAX_DESCRIPTION)
    parameters = {name: each for name, each in declared.items() if each is not None}
    _refuse_unused(faults, parameters, [*indicators.values(), sizing], [*rules.values()])
    faults.raise_if_any()
    return Strategy(
        name=name,
        description=" ".join(description.split()),
        parameters=parameters,
        constraint=constraint,
        indicators=indicators,
        entry=rules["entry"],
        exit=rules["exit"],
        costs=costs,
        sizing=sizing,
        shown={
            key: " ".join(str(given[key]).split())
            for key in ("constraint", "entry", "exit")
            if given.get(key) is not None
        },
    )


@lru_cache(maxsize=64)
def read_feature_set(text: str, shown_as: str) -> FeatureSet:
    """The feature set that a YAML text says.

    Raises:
        InvalidParameters: All that is wrong with it.
    """
    faults, data = _opened(text, shown_as)
    given = faults.keys((), data, ("name", "features"), required=("name", "features"))
    name = _name(faults, given)
    templates = _indicators(faults, given.get("features", {}), {}, "features")
    faults.raise_if_any()
    definitions: dict[str, Definition] = {
        key: each.with_values({}) for key, each in templates.items()
    }
    return FeatureSet(name, definitions)


def _opened(text: str, shown_as: str) -> tuple[Faults, Any]:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise InvalidParameters(f"{shown_as} is larger than {MAX_BYTES // 1024} KB", hint=HINT)
    try:
        written = read_yaml(text, shown_as, aliases=False)
    except YamlFault as exc:
        raise InvalidParameters(f"{shown_as}:{exc.line}: {exc.reason}", hint=HINT) from exc
    return Faults(shown_as, written), written.data


def _name(faults: Faults, given: Mapping[str, Any]) -> str:
    if "name" not in given:
        return ""
    name = faults.text(("name",), given["name"], 64)
    if isinstance(given["name"], str) and not re.fullmatch(NAME_PATTERN, name):
        faults.add(("name",), "may have letters, digits, dot, dash and underscore only")
    return name


def _section(faults: Faults, key: str, value: Any, most: int) -> dict[str, Any]:
    """A mapping from identifiers; nothing at all is an empty one."""
    given = {} if value is None else faults.mapping((key,), value)
    if len(given) > most:
        faults.add((key,), f"are {len(given)}, of {most} at most")
    for name in given:
        if not _IDENTIFIER.fullmatch(name):
            faults.add(
                (key, name), "must be a small letter and up to 31 more, digits or underscores"
            )
        elif name in RESERVED:
            faults.add((key, name), "is a word of the rules: choose another")
    return given


def _parameters(faults: Faults, value: Any) -> dict[str, Parameter | None]:
    """The parameters; None for one that is wrong, so that what uses it is not called wrong, too."""
    given = _section(faults, "parameters", value, MAX_PARAMETERS)
    return {name: _parameter(faults, name, each) for name, each in given.items()}


def _parameter(faults: Faults, name: str, value: Any) -> Parameter | None:
    path = ("parameters", name)
    required = ("default", "minimum", "maximum")
    given = faults.keys(path, value, (*required, "integer"), required=required)
    integer = given.get("integer", False)
    if not isinstance(integer, bool):
        faults.expect((*path, "integer"), "true or false", integer)
        return None
    bounds = [
        faults.number((*path, key), given[key], -MAX_NUMBER, MAX_NUMBER, whole=integer)
        for key in ("minimum", "maximum")
        if key in given
    ]
    low, high = (*bounds, None, None)[:2]
    if low is None or high is None or "default" not in given:
        return None
    if low > high:
        faults.add((*path, "minimum"), f"{low:g} is above maximum {high:g}")
        return None
    values = _defaults(faults, (*path, "default"), given["default"], (low, high), whole=integer)
    return Parameter(name, values, low, high, integer) if values else None


def _defaults(
    faults: Faults, path: KeyPath, value: Any, bounds: tuple[float, float], *, whole: bool
) -> tuple[int | float, ...]:
    if not isinstance(value, list):
        number = faults.number(path, value, *bounds, whole=whole)
        return () if number is None else (number,)
    if not 1 <= len(value) <= MAX_DEFAULTS:
        faults.add(path, f"has {len(value)} values: it needs 1 to {MAX_DEFAULTS}")
        return ()
    found = [
        faults.number((*path, str(index)), each, *bounds, whole=whole)
        for index, each in enumerate(value)
    ]
    return tuple(number for number in found if number is not None)


def _indicators(
    faults: Faults, value: Any, parameters: Mapping[str, Parameter | None], key: str = "indicators"
) -> dict[str, Template]:
    found = {}
    for name, each in _section(faults, key, value, MAX_INDICATORS).items():
        if name in parameters:
            faults.add((key, name), "is the name of a parameter, too")
        found[name] = read_indicator(faults, (key, name), each, parameters)
    return found


def _sizing(faults: Faults, value: Any, parameters: Mapping[str, Parameter | None]) -> Template:
    """``all_in``, ``fraction: SHARE`` or ``volatility_target: {…}``."""
    path = ("sizing",)
    given = {value: {}} if isinstance(value, str) else value
    if not isinstance(given, dict) or len(given) != 1:
        faults.add(path, f"must be one of {', '.join(SIZINGS)}")
        return Template("all_in")
    word, arguments = next(iter(given.items()))
    kind = SIZINGS.get(word)
    if kind is None:
        faults.add(
            path, f"{word} is unknown{did_you_mean(word, SIZINGS)}; it may be {', '.join(SIZINGS)}"
        )
        return Template("all_in")
    if word == "fraction" and not isinstance(arguments, dict):
        arguments = {"fraction": arguments}
        return read_template(faults, path, kind, arguments, parameters)
    return read_template(faults, (*path, word), kind, arguments, parameters)


def _constraint(faults: Faults, value: Any, parameters: Collection[str]) -> Condition | None:
    return None if value is None else _rule(faults, "constraint", value, parameters)


def _rule(faults: Faults, key: str, value: Any, known: Collection[str]) -> Condition:
    try:
        return read_rule(faults.text((key,), value, 10_000), known)
    except RuleFault as fault:
        if isinstance(value, str):
            faults.add((key,), f"is not good: {fault}")
        return Constant(truth=False)


def _costs(faults: Faults, value: Any) -> Costs:
    given = {} if value is None else faults.keys(("costs",), value, ("commission", "slippage"))
    found = {
        key: faults.number(("costs", key), each, 0, MAX_COST) or 0.0 for key, each in given.items()
    }
    return Costs(found.get("commission", 0.0), found.get("slippage", 0.0))


def _refuse_unused(
    faults: Faults,
    parameters: Collection[str],
    templates: Collection[Template],
    rules: Collection[Condition],
) -> None:
    """A parameter that changes nothing is a slip of the pen, and a sweep over it a waste."""
    used = {name for rule in rules for name in names_of(rule)}
    for template in templates:
        used |= template.parameters
    for name in parameters:
        if name not in used:
            faults.add(("parameters", name), "is used by no indicator, no rule and no sizing")
