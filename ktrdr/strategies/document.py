"""Strategies and feature sets as validated data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ktrdr.strategies.rules import Condition, format_rule

ParameterValue = int | float


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that a backtest may choose.

    Attributes:
        defaults: Default value, or several values from which each fold chooses.
        minimum: Least allowed value.
        maximum: Greatest allowed value.
        is_integer: True if the value must be a whole number.
    """

    name: str
    defaults: tuple[ParameterValue, ...]
    minimum: ParameterValue
    maximum: ParameterValue
    is_integer: bool


@dataclass(frozen=True, slots=True)
class Component:
    """An indicator or a sizing with a value for every argument, ready to be computed.

    Attributes:
        kind: Name of a `ComponentKind`.
        arguments: Names and values, in the order that the kind declares them.
    """

    kind: str
    arguments: tuple[tuple[str, ParameterValue | str], ...] = ()

    def argument(self, name: str) -> Any:
        """Return the value of an argument."""
        return dict(self.arguments)[name]


@dataclass(frozen=True, slots=True)
class ParameterReference:
    """The name of a parameter, used in place of an argument's value."""

    parameter: str


@dataclass(frozen=True, slots=True)
class ComponentTemplate:
    """A component whose arguments may refer to parameters."""

    kind: str
    arguments: tuple[tuple[str, ParameterValue | str | ParameterReference], ...] = ()

    @property
    def parameters(self) -> frozenset[str]:
        """Names of the parameters that the arguments refer to."""
        values = (value for _, value in self.arguments)
        return frozenset(
            value.parameter for value in values if isinstance(value, ParameterReference)
        )

    def with_values(self, values: Mapping[str, ParameterValue]) -> Component:
        """Return the component with the parameters replaced by the given values."""
        arguments = (
            (name, values[value.parameter] if isinstance(value, ParameterReference) else value)
            for name, value in self.arguments
        )
        return Component(self.kind, tuple(arguments))

    def to_data(self) -> dict[str, Any]:
        """Return plain data for the strategy's hash."""
        return {
            "kind": self.kind,
            **{
                name: f"parameter {value.parameter}"
                if isinstance(value, ParameterReference)
                else value
                for name, value in self.arguments
            },
        }


@dataclass(frozen=True, slots=True)
class TradingCosts:
    """Costs as fractions of the traded value."""

    commission: float
    slippage: float


@dataclass(frozen=True)
class Strategy:
    """The content of a strategy document.

    Attributes:
        constraint: Condition that the parameters must satisfy together, or None.
        entry: Condition that opens a position.
        exit: Condition that closes a position.
        source_text: Rules and constraint as written in the document, by key.
    """

    name: str
    description: str
    parameters: Mapping[str, Parameter]
    constraint: Condition | None
    indicators: Mapping[str, ComponentTemplate]
    entry: Condition
    exit: Condition
    costs: TradingCosts
    sizing: ComponentTemplate
    source_text: Mapping[str, str]

    @property
    def content_hash(self) -> str:
        """SHA-256 of the strategy's behaviour, which formatting and description do not change."""
        content = {
            "parameters": {
                parameter.name: [
                    list(map(float, parameter.defaults)),
                    float(parameter.minimum),
                    float(parameter.maximum),
                    parameter.is_integer,
                ]
                for parameter in self.parameters.values()
            },
            "constraint": format_rule(self.constraint) if self.constraint else None,
            "indicators": {name: template.to_data() for name, template in self.indicators.items()},
            "entry": format_rule(self.entry),
            "exit": format_rule(self.exit),
            "costs": [self.costs.commission, self.costs.slippage],
            "sizing": self.sizing.to_data(),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class FeatureSet:
    """Named components that a model learns from."""

    name: str
    features: Mapping[str, Component]
