"""ASGI middleware: limits on request size, request metrics, readable startup errors."""

from __future__ import annotations

import re
import time
from typing import Final

from fastapi import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ktrdr.api.errors import handle_http_exception
from ktrdr.errors import KtrdrError
from ktrdr.schemas import API_PREFIX
from ktrdr.strategies.document_file import MAX_BYTES
from ktrdr.telemetry import metrics

# A thousand operations with all their parameters take about 300 kB.
MAX_BODY_BYTES: Final = 2 * 1024 * 1024
# A dataset of ten million bars in a typical CSV file.
MAX_DATASET_BYTES: Final = 512 * 1024 * 1024
_STRATEGY_PATH: Final = re.compile(f"{API_PREFIX}/strategies/[^/]+")
_DATASET_PATH: Final = re.compile(f"{API_PREFIX}/data/[^/]+/[^/]+")


def max_body_bytes(method: str, path: str) -> int:
    """Return the maximum size of a request's body."""
    if method == "PUT" and _STRATEGY_PATH.fullmatch(path):
        return MAX_BYTES
    if method == "PUT" and _DATASET_PATH.fullmatch(path):
        return MAX_DATASET_BYTES
    return MAX_BODY_BYTES


class RequestSizeLimit:
    """Middleware that rejects bodies that are too large, whatever their headers declare."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or reject it once its body exceeds the limit."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = max_body_bytes(scope["method"], scope["path"])
        size = f"{limit // 1024**2} MiB" if limit >= 1024**2 else f"{limit // 1024} KiB"
        error = HTTPException(413, f"the body is larger than {size}")
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            response = await handle_http_exception(Request(scope), error)
            await response(scope, receive, send)
            return
        received = 0

        async def receive_and_count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise error
            return message

        await self._app(scope, receive_and_count, send)


class RequestMetrics:
    """Middleware that counts and times requests by route, never by path: paths hold ids."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request and record its status and duration."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = 500, time.perf_counter()

        async def send_and_record(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_record)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            metrics.http_requests.labels(scope["method"], route, status).inc()
            metrics.http_request_duration.labels(scope["method"], route).observe(
                time.perf_counter() - start
            )


class StartupErrors:
    """Middleware that logs an expected startup error as a sentence instead of a traceback.

    The lifespan stores the error in the application's state as ``startup_error``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle the lifespan protocol of the ASGI specification; pass on everything else."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_sentence(message: Message) -> None:
            error = getattr(scope["app"].state, "startup_error", None)
            if message["type"] == "lifespan.startup.failed" and isinstance(error, KtrdrError):
                sentence = " ".join(filter(None, (error.message, error.hint)))
                message = {**message, "message": sentence}
            await send(message)

        await self._app(scope, receive, send_sentence)
