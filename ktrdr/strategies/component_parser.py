"""Parser of indicators and sizings: a kind, with values or parameters as arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ktrdr.errors import did_you_mean
from ktrdr.strategies.component_kinds import (
    INDICATORS,
    Argument,
    ComponentKind,
    NumberArgument,
    TextArgument,
)
from ktrdr.strategies.document import (
    ComponentTemplate,
    Parameter,
    ParameterReference,
    ParameterValue,
)
from ktrdr.strategies.validation import DocumentValidator
from ktrdr.yaml_source import KeyPath


def parse_indicator(
    validator: DocumentValidator,
    path: KeyPath,
    value: Any,
    parameters: Mapping[str, Parameter | None],
) -> ComponentTemplate:
    """Return the indicator that ``{kind: …, …}`` describes, or an empty template if invalid."""
    mapping = validator.read_mapping(path, value)
    kind = mapping.get("kind")
    if not isinstance(kind, str) or kind not in INDICATORS:
        choices = ", ".join(INDICATORS)
        if isinstance(kind, str):
            suggestion = did_you_mean(kind, INDICATORS)
            validator.add_error(
                (*path, "kind"), f"must be one of {choices}, not {kind}{suggestion}"
            )
        elif mapping:
            validator.add_error((*path, "kind"), f"must be one of {choices}")
        return ComponentTemplate("")
    arguments = {name: argument for name, argument in mapping.items() if name != "kind"}
    return parse_component(validator, path, INDICATORS[kind], arguments, parameters)


def parse_component(
    validator: DocumentValidator,
    path: KeyPath,
    kind: ComponentKind,
    value: Any,
    parameters: Mapping[str, Parameter | None],
) -> ComponentTemplate:
    """Return a component of the kind with the given arguments, and defaults for the others."""
    required = [argument.name for argument in kind.arguments if argument.default is None]
    names = [argument.name for argument in kind.arguments]
    mapping = validator.read_keys(path, value, names, required=required)
    arguments: list[tuple[str, ParameterValue | str | ParameterReference]] = []
    for argument in kind.arguments:
        if argument.name not in mapping:
            # A missing argument without a default was recorded as an error above.
            default = argument.default if argument.default is not None else 0
            arguments.append((argument.name, default))
            continue
        inner = path if path == (argument.name,) else (*path, argument.name)
        parsed = _parse_argument(validator, inner, argument, mapping[argument.name], parameters)
        if parsed is not None:
            arguments.append((argument.name, parsed))
    return ComponentTemplate(kind.name, tuple(arguments))


def _parse_argument(
    validator: DocumentValidator,
    path: KeyPath,
    argument: Argument,
    value: Any,
    parameters: Mapping[str, Parameter | None],
) -> ParameterValue | str | ParameterReference | None:
    if isinstance(argument, TextArgument):
        return _parse_text(validator, path, argument, value)
    if isinstance(value, str):
        return _parse_reference(validator, path, argument, value, parameters)
    return validator.read_number(
        path, value, argument.minimum, argument.maximum, is_integer=argument.is_integer
    )


def _parse_text(
    validator: DocumentValidator, path: KeyPath, argument: TextArgument, value: Any
) -> str | None:
    text = validator.read_text(path, value, 64)
    if argument.choices and text and text not in argument.choices:
        suggestion = did_you_mean(text, argument.choices)
        validator.add_error(
            path, f"must be one of {', '.join(argument.choices)}, not {text}{suggestion}"
        )
    if argument.pattern and text and not re.fullmatch(argument.pattern, text):
        validator.add_error(path, "may contain only letters, digits, dot, dash and underscore")
    return text or None


def _parse_reference(
    validator: DocumentValidator,
    path: KeyPath,
    argument: NumberArgument,
    name: str,
    parameters: Mapping[str, Parameter | None],
) -> ParameterReference | None:
    """Return a reference to the parameter if the argument accepts all of its values."""
    parameter = parameters.get(name)
    if name in parameters and parameter is None:
        return None
    if parameter is None:
        suggestion = did_you_mean(name, parameters)
        validator.add_error(
            path, f"must be a number or a parameter, and there is no parameter {name}{suggestion}"
        )
    elif argument.is_integer and not parameter.is_integer:
        validator.add_error(
            path, f"must be a whole number, and parameter {name} is not `integer: true`"
        )
    elif not argument.minimum <= parameter.minimum <= parameter.maximum <= argument.maximum:
        validator.add_error(
            path,
            f"must be from {argument.minimum:g} to {argument.maximum:g}, but parameter {name} may "
            f"be from {parameter.minimum:g} to {parameter.maximum:g}",
        )
    else:
        return ParameterReference(name)
    return None
