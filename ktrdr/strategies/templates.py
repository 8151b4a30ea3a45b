"""Reads indicators and sizings: a kind, and its arguments or the parameters that stand for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ktrdr.errors import did_you_mean
from ktrdr.strategies.document import Parameter, Reference, Template, Value
from ktrdr.strategies.faults import Faults
from ktrdr.strategies.kinds import INDICATORS, Argument, Kind, NumberArgument, TextArgument
from ktrdr.yaml_source import KeyPath


def read_indicator(
    faults: Faults, path: KeyPath, value: Any, parameters: Mapping[str, Parameter | None]
) -> Template:
    """What ``{kind: …, …}`` says; an empty template where that is wrong."""
    given = faults.mapping(path, value)
    word = given.get("kind")
    if not isinstance(word, str) or word not in INDICATORS:
        if isinstance(word, str):
            near = did_you_mean(word, INDICATORS)
            faults.add(
                (*path, "kind"), f"{word} is unknown{near}; there is {', '.join(INDICATORS)}"
            )
        elif given:
            faults.add((*path, "kind"), f"must be one of {', '.join(INDICATORS)}")
        return Template("")
    arguments = {key: each for key, each in given.items() if key != "kind"}
    return read_template(faults, path, INDICATORS[word], arguments, parameters)


def read_template(
    faults: Faults,
    path: KeyPath,
    kind: Kind,
    value: Any,
    parameters: Mapping[str, Parameter | None],
) -> Template:
    """The arguments of a kind, those that are not said at their defaults."""
    required = [each.name for each in kind.arguments if each.default is None]
    given = faults.keys(path, value, [each.name for each in kind.arguments], required=required)
    found: list[tuple[str, Value | str | Reference]] = []
    for argument in kind.arguments:
        if argument.name not in given:
            # What has no default was found missing above.
            found.append((argument.name, argument.default if argument.default is not None else 0))
            continue
        inner = path if path == (argument.name,) else (*path, argument.name)
        filled = _argument(faults, inner, argument, given[argument.name], parameters)
        if filled is not None:
            found.append((argument.name, filled))
    return Template(kind.name, tuple(found))


def _argument(
    faults: Faults,
    path: KeyPath,
    argument: Argument,
    value: Any,
    parameters: Mapping[str, Parameter | None],
) -> Value | str | Reference | None:
    if isinstance(argument, TextArgument):
        return _text(faults, path, argument, value)
    if isinstance(value, str):
        return _reference(faults, path, argument, value, parameters)
    return faults.number(path, value, argument.lowest, argument.highest, whole=argument.whole)


def _text(faults: Faults, path: KeyPath, argument: TextArgument, value: Any) -> str | None:
    text = faults.text(path, value, 64)
    if argument.words and text and text not in argument.words:
        near = did_you_mean(text, argument.words)
        faults.add(path, f"must be one of {', '.join(argument.words)}, not {text}{near}")
    if argument.pattern and text and not re.fullmatch(argument.pattern, text):
        faults.add(path, "may have letters, digits, dot, dash and underscore only")
    return text or None


def _reference(
    faults: Faults,
    path: KeyPath,
    argument: NumberArgument,
    word: str,
    parameters: Mapping[str, Parameter | None],
) -> Reference | None:
    """The parameter of that name, if all that it may be is all right here."""
    parameter = parameters.get(word)
    if word in parameters and parameter is None:
        return None
    if parameter is None:
        near = did_you_mean(word, parameters)
        faults.add(path, f"must be a number or a parameter, and {word} is none{near}")
    elif argument.whole and not parameter.integer:
        faults.add(path, f"must be whole, and parameter {word} lacks `integer: true`")
    elif not argument.lowest <= parameter.minimum <= parameter.maximum <= argument.highest:
        faults.add(
            path,
            f"must be from {argument.lowest:g} to {argument.highest:g}, but parameter {word} may "
            f"be from {parameter.minimum:g} to {parameter.maximum:g}",
        )
    else:
        return Reference(word)
    return None
