"""Errors in messages: problem documents, and the error of a failed operation."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, Self

from pydantic import BaseModel, ConfigDict

from ktrdr.schemas.base import ResponseModel

PROBLEM_TYPE_PREFIX: Final = "urn:ktrdr:problem:"


class ProblemDocument(BaseModel):
    """HTTP error as RFC 9457 defines it, extended by ``hint``."""

    model_config = ConfigDict(extra="ignore")

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    hint: str | None = None

    @classmethod
    def create(
        cls,
        kind: str,
        status: int,
        detail: str,
        *,
        instance: str | None = None,
        hint: str | None = None,
    ) -> Self:
        """Create a problem document.

        Args:
            kind: Slug of the error's class, such as ``not-found``.
            status: HTTP status.
            detail: Sentence that names the thing and the reason.
            instance: Path of the request.
            hint: Remedy.
        """
        return cls(
            type=f"{PROBLEM_TYPE_PREFIX}{kind}",
            title=HTTPStatus(status).phrase,
            status=status,
            detail=detail,
            instance=instance,
            hint=hint,
        )

    @property
    def kind(self) -> str:
        """Slug of the error's class, see `ktrdr.errors`."""
        return self.type.removeprefix(PROBLEM_TYPE_PREFIX)


class ErrorDetail(ResponseModel):
    """Error of a failed operation: reason and remedy, a sentence each."""

    kind: str
    message: str
    hint: str | None = None
