"""A strategy as data: read, checked, and the same wherever it is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ktrdr.strategies.rules import Condition, text_of

Value = int | float


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that a backtest may choose.

    Attributes:
        defaults: Its value if nothing else is said, or several that compete with each other.
        minimum: The least it may be; ``maximum`` is the most.
        integer: Whether it is a whole number.
    """

    name: str
    defaults: tuple[Value, ...]
    minimum: Value
    maximum: Value
    integer: bool


@dataclass(frozen=True, slots=True)
class Definition:
    """An indicator, or a sizing, with every argument a value: what can be computed.

    Attributes:
        arguments: Names and values, in the order of the kind's.
    """

    kind: str
    arguments: tuple[tuple[str, Value | str], ...] = ()

    def argument(self, name: str) -> Any:
        """The value of an argument."""
        return dict(self.arguments)[name]


@dataclass(frozen=True, slots=True)
class Reference:
    """The name of a parameter, in the place of its value."""

    parameter: str


@dataclass(frozen=True, slots=True)
class Template:
    """A definition some of whose arguments are parameters."""

    kind: str
    arguments: tuple[tuple[str, Value | str | Reference], ...] = ()

    @property
    def parameters(self) -> frozenset[str]:
        """The names of the parameters that stand in it."""
        given = (value for _, value in self.arguments)
        return frozenset(each.parameter for each in given if isinstance(each, Reference))

    def with_values(self, values: Mapping[str, Value]) -> Definition:
        """The definition for certain values of the parameters."""
        filled = (
            (name, values[given.parameter] if isinstance(given, Reference) else given)
            for name, given in self.arguments
        )
        return Definition(self.kind, tuple(filled))

    def to_data(self) -> dict[str, Any]:
        """As plain data, for the hash."""
        return {
            "kind": self.kind,
            **{
                name: f"parameter {given.parameter}" if isinstance(given, Reference) else given
                for name, given in self.arguments
            },
        }


@dataclass(frozen=True, slots=True)
class Costs:
    """Fractions of traded value."""

    commission: float
    slippage: float


@dataclass(frozen=True)
class Strategy:
    """What a strategy's document says.

    Attributes:
        constraint: What must be true of the parameters together, or None.
        entry: When a position that is not held is entered.
        exit: When one that is held is left.
        shown: The rules and the sizing as they were written, by their keys.
    """

    name: str
    description: str
    parameters: Mapping[str, Parameter]
    constraint: Condition | None
    indicators: Mapping[str, Template]
    entry: Condition
    exit: Condition
    costs: Costs
    sizing: Template
    shown: Mapping[str, str]

    @property
    def content_hash(self) -> str:
        """SHA-256 of what it does: another spelling, comment or description changes nothing."""
        content = {
            "parameters": {
                each.name: [
                    list(map(float, each.defaults)),
                    float(each.minimum),
                    float(each.maximum),
                    each.integer,
                ]
                for each in self.parameters.values()
            },
            "constraint": text_of(self.constraint) if self.constraint else None,
            "indicators": {name: each.to_data() for name, each in self.indicators.items()},
            "entry": text_of(self.entry),
            "exit": text_of(self.exit),
            "costs": [self.costs.commission, self.costs.slippage],
            "sizing": self.sizing.to_data(),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class FeatureSet:
    """Named figures that a model learns from."""

    name: str
    definitions: Mapping[str, Definition]
