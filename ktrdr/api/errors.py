"""Conversion of errors into problem documents (RFC 9457)."""

from __future__ import annotations

import logging
import math
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from ktrdr.errors import KtrdrError, NotFound, SecretsError, TooLarge, TooManyAttempts, UsageError
from ktrdr.schemas import ProblemDocument

logger = logging.getLogger(__name__)

CONTENT_TYPE: Final = "application/problem+json"


def problem_response(
    request: Request,
    status: int,
    kind: str,
    detail: str,
    hint: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Return a response with a problem document.

    Args:
        request: Failed request.
        status: HTTP status.
        kind: Slug that clients convert back into an error.
        detail: Sentence that names the thing and the reason.
        hint: Remedy.
        headers: Further headers.
    """
    problem = ProblemDocument.create(kind, status, detail, instance=request.url.path, hint=hint)
    return Response(
        problem.model_dump_json(exclude_none=True),
        status_code=status,
        media_type=CONTENT_TYPE,
        headers=headers,
    )


def describe_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of a route's error responses.

    Every route with a token may return 429 after too many bad tokens, and every route that uses the
    database 503.
    """
    return {
        status: {
            "model": ProblemDocument,
            "content": {CONTENT_TYPE: {}},
            "description": HTTPStatus(status).phrase,
        }
        for status in sorted({*statuses, *({429} if 401 in statuses else ()), 503})
    }


def remove_generated_422(app: FastAPI) -> None:
    """Remove the 422 responses that FastAPI adds to the documentation of every route.

    The routes that return 422 describe it themselves, as a problem document.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        is_new = app.openapi_schema is None
        schema = generate()
        if is_new:
            for methods in schema["paths"].values():
                for route in methods.values():
                    unprocessable = route["responses"].get("422", {})
                    if CONTENT_TYPE not in unprocessable.get("content", {}):
                        route["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                schema["components"]["schemas"].pop(name, None)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def add_error_handlers(app: FastAPI) -> None:
    """Convert every error of this application into a problem document."""
    app.add_exception_handler(KtrdrError, _handle_ktrdr_error)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)
    app.add_exception_handler(HTTPException, handle_http_exception)
    app.add_exception_handler(Exception, _handle_unexpected_error)


async def _handle_ktrdr_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, KtrdrError)  # noqa: S101  # registered for this type
    headers = None
    if isinstance(error, TooManyAttempts):
        headers = {"Retry-After": str(math.ceil(error.retry_after_s))}
    elif type(error) is SecretsError:
        headers = {"WWW-Authenticate": "Bearer"}
    return problem_response(
        request, error.http_status, error.kind, error.message, error.hint, headers
    )


async def _handle_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for this type
    problems = "; ".join(
        f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
        for problem in error.errors()
    )
    return problem_response(
        request, 422, "usage", f"invalid request: {problems}", "See /api/v1/docs."
    )


async def handle_http_exception(request: Request, error: Exception) -> Response:
    """Convert an error of the framework into a problem document."""
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this type
    kinds = {known.http_status: known.kind for known in (NotFound, TooLarge)}
    return problem_response(
        request,
        error.status_code,
        kinds.get(error.status_code, UsageError.kind),
        f"{request.method} {request.url.path}: {error.detail}",
        headers=dict(error.headers) if error.headers else None,
    )


async def _handle_unexpected_error(request: Request, error: Exception) -> Response:
    logger.error("unexpected error", exc_info=error, extra={"path": request.url.path})
    return problem_response(
        request,
        500,
        "internal",
        f"internal error: {type(error).__name__}",
        "Search the backend's log for the trace id of this request.",
    )
