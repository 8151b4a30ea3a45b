"""Reader of strategy documents in YAML, which reports all errors with their lines."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final

from ktrdr.errors import InvalidParameters, did_you_mean
from ktrdr.schemas import NAME_PATTERN
from ktrdr.strategies.component_kinds import SIZINGS
from ktrdr.strategies.component_parser import parse_component, parse_indicator
from ktrdr.strategies.document import (
    ComponentTemplate,
    FeatureSet,
    Parameter,
    Strategy,
    TradingCosts,
)
from ktrdr.strategies.rule_parser import PRICES, RESERVED, RuleSyntaxError, parse_rule
from ktrdr.strategies.rules import BooleanConstant, Condition, referenced_names
from ktrdr.strategies.validation import HINT, DocumentValidator
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
def read_strategy(text: str, filename: str) -> Strategy:
    """Return the strategy that a YAML document describes.

    Args:
        text: Content of the document.
        filename: Name of the document in error messages.

    Raises:
        InvalidParameters: The document is invalid; the message lists its errors.
    """
    validator, data = _open_document(text, filename)
    keys = validator.read_keys((), data, KEYS, required=("name", "entry", "exit"))
    name = _read_name(validator, keys)
    section = _read_section(validator, "parameters", keys.get("parameters"), MAX_PARAMETERS)
    # An invalid parameter is None, so that its uses are not reported as well.
    declared = {name: _read_parameter(validator, name, value) for name, value in section.items()}
    indicators = _read_indicators(validator, keys.get("indicators"), declared)
    sizing = _read_sizing(validator, keys.get("sizing", "all_in"), declared)
    constraint = None
    if keys.get("constraint") is not None:
        constraint = _read_rule(validator, "constraint", keys["constraint"], declared)
    names = {*PRICES, *declared, *indicators}
    rules = {
        key: _read_rule(validator, key, keys[key], names)
        for key in ("entry", "exit")
        if key in keys
    }
    costs = _read_costs(validator, keys.get("costs"))
    description = validator.read_text(
        ("description",), keys.get("description", ""), MAX_DESCRIPTION
    )
    parameters = {name: value for name, value in declared.items() if value is not None}
    _check_parameters_are_used(
        validator, parameters, [*indicators.values(), sizing], [*rules.values()]
    )
    validator.raise_if_invalid()
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
        source_text={
            key: " ".join(str(keys[key]).split())
            for key in ("constraint", "entry", "exit")
            if keys.get(key) is not None
        },
    )


@lru_cache(maxsize=64)
def read_feature_set(text: str, filename: str) -> FeatureSet:
    """Return the feature set that a YAML document describes.

    Raises:
        InvalidParameters: The document is invalid; the message lists its errors.
    """
    validator, data = _open_document(text, filename)
    keys = validator.read_keys((), data, ("name", "features"), required=("name", "features"))
    name = _read_name(validator, keys)
    templates = _read_indicators(validator, keys.get("features", {}), {}, "features")
    validator.raise_if_invalid()
    return FeatureSet(name, {key: template.with_values({}) for key, template in templates.items()})


def _open_document(text: str, filename: str) -> tuple[DocumentValidator, Any]:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise InvalidParameters(f"{filename} is larger than {MAX_BYTES // 1024} KB", hint=HINT)
    try:
        document = read_yaml(text, filename, aliases=False)
    except YamlFault as exc:
        raise InvalidParameters(f"{filename}:{exc.line}: {exc.reason}", hint=HINT) from exc
    return DocumentValidator(filename, document), document.data


def _read_name(validator: DocumentValidator, keys: Mapping[str, Any]) -> str:
    if "name" not in keys:
        return ""
    name = validator.read_text(("name",), keys["name"], 64)
    if isinstance(keys["name"], str) and not re.fullmatch(NAME_PATTERN, name):
        validator.add_error(("name",), "may contain only letters, digits, dot, dash and underscore")
    return name


def _read_section(
    validator: DocumentValidator, key: str, value: Any, max_entries: int
) -> dict[str, Any]:
    """Return a mapping whose keys are identifiers; a missing section is an empty mapping."""
    section = {} if value is None else validator.read_mapping((key,), value)
    if len(section) > max_entries:
        validator.add_error(
            (key,), f"has {len(section)} entries, and at most {max_entries} are allowed"
        )
    for name in section:
        if not _IDENTIFIER.fullmatch(name):
            validator.add_error(
                (key, name),
                "must begin with a lowercase letter and have at most 31 more lowercase letters, "
                "digits or underscores",
            )
        elif name in RESERVED:
            validator.add_error((key, name), "is a reserved word: choose another name")
    return section


def _read_parameter(validator: DocumentValidator, name: str, value: Any) -> Parameter | None:
    path = ("parameters", name)
    required = ("default", "minimum", "maximum")
    keys = validator.read_keys(path, value, (*required, "integer"), required=required)
    is_integer = keys.get("integer", False)
    if not isinstance(is_integer, bool):
        validator.add_type_error((*path, "integer"), "true or false", is_integer)
        return None
    minimum, maximum = (
        validator.read_number(
            (*path, key), keys[key], -MAX_NUMBER, MAX_NUMBER, is_integer=is_integer
        )
        if key in keys
        else None
        for key in ("minimum", "maximum")
    )
    if minimum is None or maximum is None or "default" not in keys:
        return None
    if minimum > maximum:
        validator.add_error((*path, "minimum"), f"{minimum:g} is above maximum {maximum:g}")
        return None
    defaults = _read_defaults(
        validator, (*path, "default"), keys["default"], (minimum, maximum), is_integer=is_integer
    )
    return Parameter(name, defaults, minimum, maximum, is_integer) if defaults else None


def _read_defaults(
    validator: DocumentValidator,
    path: KeyPath,
    value: Any,
    bounds: tuple[float, float],
    *,
    is_integer: bool,
) -> tuple[int | float, ...]:
    if not isinstance(value, list):
        number = validator.read_number(path, value, *bounds, is_integer=is_integer)
        return () if number is None else (number,)
    if not 1 <= len(value) <= MAX_DEFAULTS:
        validator.add_error(path, f"has {len(value)} values, and must have 1 to {MAX_DEFAULTS}")
        return ()
    numbers = [
        validator.read_number((*path, str(index)), item, *bounds, is_integer=is_integer)
        for index, item in enumerate(value)
    ]
    return tuple(number for number in numbers if number is not None)


def _read_indicators(
    validator: DocumentValidator,
    value: Any,
    parameters: Mapping[str, Parameter | None],
    key: str = "indicators",
) -> dict[str, ComponentTemplate]:
    indicators = {}
    for name, indicator in _read_section(validator, key, value, MAX_INDICATORS).items():
        if name in parameters:
            validator.add_error((key, name), "is also the name of a parameter")
        indicators[name] = parse_indicator(validator, (key, name), indicator, parameters)
    return indicators


def _read_sizing(
    validator: DocumentValidator, value: Any, parameters: Mapping[str, Parameter | None]
) -> ComponentTemplate:
    """Read ``all_in``, ``fraction: SHARE`` or ``volatility_target: {…}``."""
    path = ("sizing",)
    sizing = {value: {}} if isinstance(value, str) else value
    if not isinstance(sizing, dict) or len(sizing) != 1:
        validator.add_error(path, f"must be one of {', '.join(SIZINGS)}")
        return ComponentTemplate("all_in")
    name, arguments = next(iter(sizing.items()))
    kind = SIZINGS.get(name)
    if kind is None:
        suggestion = did_you_mean(name, SIZINGS)
        validator.add_error(path, f"must be one of {', '.join(SIZINGS)}, not {name}{suggestion}")
        return ComponentTemplate("all_in")
    if name == "fraction" and not isinstance(arguments, dict):
        return parse_component(validator, path, kind, {"fraction": arguments}, parameters)
    return parse_component(validator, (*path, name), kind, arguments, parameters)


def _read_rule(
    validator: DocumentValidator, key: str, value: Any, names: Collection[str]
) -> Condition:
    try:
        return parse_rule(validator.read_text((key,), value, 10_000), names)
    except RuleSyntaxError as exc:
        if isinstance(value, str):
            validator.add_error((key,), f"is invalid: {exc}")
        return BooleanConstant(truth=False)


def _read_costs(validator: DocumentValidator, value: Any) -> TradingCosts:
    path, names = ("costs",), ("commission", "slippage")
    keys = {} if value is None else validator.read_keys(path, value, names)
    commission, slippage = (
        validator.read_number((*path, name), keys.get(name, 0.0), 0, MAX_COST) or 0.0
        for name in names
    )
    return TradingCosts(commission, slippage)


def _check_parameters_are_used(
    validator: DocumentValidator,
    parameters: Collection[str],
    templates: Collection[ComponentTemplate],
    rules: Collection[Condition],
) -> None:
    """Record unused parameters as errors: a sweep over one would run equal backtests."""
    used = {name for rule in rules for name in referenced_names(rule)}
    for template in templates:
        used |= template.parameters
    for name in parameters:
        if name not in used:
            validator.add_error(
                ("parameters", name), "is not used by any indicator, rule or sizing"
            )
