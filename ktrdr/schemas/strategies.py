"""Strategies as the API lists them."""

from __future__ import annotations

from ktrdr.schemas.base import ResponseModel


class StrategyParameter(ResponseModel):
    """Parameter of a strategy, with its limits; a sweep combines several defaults."""

    name: str
    defaults: tuple[int | float, ...]
    minimum: int | float
    maximum: int | float
    integer: bool


class StrategyInfo(ResponseModel):
    """Strategy in a listing; ``fault`` says why a user's own file is invalid."""

    name: str
    description: str
    built_in: bool
    parameters: list[StrategyParameter]
    content_hash: str
    fault: str | None = None
