"""How much a request may hold."""

from __future__ import annotations

import re
from typing import Final

from fastapi import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ktrdr.api.errors import http_problem
from ktrdr.schemas import API_PREFIX
from ktrdr.strategies.document_file import MAX_BYTES

# A thousand operations with all their parameters take some 300 kB.
MAX_BODY: Final = 2 * 1024 * 1024
# A dataset of ten million bars, as the CSV files of the world write it.
MAX_DATASET: Final = 512 * 1024 * 1024
_STRATEGY: Final = re.compile(f"{API_PREFIX}/strategies/[^/]+")
_DATASET: Final = re.compile(f"{API_PREFIX}/data/[^/]+/[^/]+")


def limit_of(method: str, path: str) -> int:
    """Bytes that the body of a request may have."""
    if method == "PUT" and _STRATEGY.fullmatch(path):
        return MAX_BYTES
    return MAX_DATASET if method == "PUT" and _DATASET.fullmatch(path) else MAX_BODY


def _shown(limit: int) -> str:
    return f"{limit // 1024**2} MiB" if limit >= 1024**2 else f"{limit // 1024} KiB"


class LimitRequestSize:
    """ASGI middleware that refuses bodies that are too large, whatever their headers say."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on whose body stays within its limit."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = limit_of(scope["method"], scope["path"])
        error = HTTPException(413, f"the body is larger than {_shown(limit)}")
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            answer = await http_problem(Request(scope), error)
            await answer(scope, receive, send)
            return
        received = 0

        async def counting() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise error
            return message

        await self._app(scope, counting, send)
