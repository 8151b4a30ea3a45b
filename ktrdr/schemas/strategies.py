"""Strategies as listings show them."""

from __future__ import annotations

from ktrdr.schemas.base import Answer


class StrategyParameter(Answer):
    """A parameter of a strategy, with what it may be; several defaults compete with each other."""

    name: str
    defaults: tuple[int | float, ...]
    minimum: int | float
    maximum: int | float
    integer: bool


class StrategyInfo(Answer):
    """A strategy in a listing; ``fault`` says why a file of one's own cannot be used."""

    name: str
    description: str
    built_in: bool
    parameters: list[StrategyParameter]
    content_hash: str
    fault: str | None = None
