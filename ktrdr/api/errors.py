"""One table from errors to problem documents (RFC 9457)."""

from __future__ import annotations

import logging
import math
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from ktrdr.errors import KtrdrError, NotFound, SecretsError, TooLarge, TooManyAttempts, UsageError
from ktrdr.schemas import Problem

logger = logging.getLogger(__name__)

CONTENT_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:ktrdr:problem:"


def problem_response(
    request: Request,
    status: int,
    kind: str,
    detail: str,
    hint: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """A problem document; ``kind`` is what clients turn back into an error."""
    problem = Problem(
        type=f"{TYPE_PREFIX}{kind}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request.url.path,
        hint=hint,
    )
    return Response(
        problem.model_dump_json(exclude_none=True),
        status_code=status,
        media_type=CONTENT_TYPE,
        headers=headers,
    )


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's documentation says of the errors it answers with.

    Whatever asks for a token answers 429 to whoever sent too many bad ones, and 503 comes wherever
    the database is asked.
    """
    return {
        status: {"model": Problem, "content": {CONTENT_TYPE: {}}, "description": _phrase(status)}
        for status in sorted({*statuses, *({429} if 401 in statuses else ()), 503})
    }


def document_truthfully(app: FastAPI) -> None:
    """Takes out of the documentation what FastAPI puts into it unasked, and no route answers with.

    It gives every route with a parameter a 422 of its own form; ours say themselves which can
    answer with one, and it is a problem document.
    """
    written = app.openapi

    def openapi() -> dict[str, Any]:
        fresh = app.openapi_schema is None
        schema = written()
        if fresh:
            for methods in schema["paths"].values():
                for route in methods.values():
                    _take_out_foreign_422(route["responses"])
            for name in ("HTTPValidationError", "ValidationError"):
                schema["components"]["schemas"].pop(name, None)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _take_out_foreign_422(responses: dict[str, Any]) -> None:
    unprocessable = responses.get("422", {})
    if CONTENT_TYPE not in unprocessable.get("content", {}):
        responses.pop("422", None)


def add_error_handlers(app: FastAPI) -> None:
    """Makes every error of this application a problem document."""
    app.add_exception_handler(KtrdrError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, http_problem)
    app.add_exception_handler(Exception, _unforeseen)


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, KtrdrError)  # noqa: S101  # registered for this type
    return problem_response(
        request, error.http_status, error.kind, error.message, error.hint, _headers_of(error)
    )


def _headers_of(error: KtrdrError) -> dict[str, str] | None:
    if isinstance(error, TooManyAttempts):
        return {"Retry-After": str(math.ceil(error.retry_after_s))}
    return {"WWW-Authenticate": "Bearer"} if type(error) is SecretsError else None


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for this type
    faults = "; ".join(
        f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
        for fault in error.errors()
    )
    return problem_response(
        request, 422, "usage", f"the request does not fit: {faults}", "See /api/v1/docs."
    )


async def http_problem(request: Request, error: Exception) -> Response:
    """An error of the framework itself as a problem document."""
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this type
    kinds = {each.http_status: each.kind for each in (NotFound, TooLarge)}
    kind = kinds.get(error.status_code, UsageError.kind)
    headers = dict(error.headers) if error.headers else None
    return problem_response(
        request,
        error.status_code,
        kind,
        f"{request.method} {request.url.path}: {error.detail}",
        headers=headers,
    )


async def _unforeseen(request: Request, error: Exception) -> Response:
    logger.error("unforeseen error", exc_info=error, extra={"path": request.url.path})
    return problem_response(
        request,
        500,
        "internal",
        "the backend met an error it did not foresee",
        "Its log has the details, under the trace of this request.",
    )


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase
