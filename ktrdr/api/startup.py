"""What is said when the backend cannot start."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ktrdr.errors import KtrdrError


class SayWhyStartupFails:
    """ASGI middleware that logs a foreseeable fault at the start as its sentence, not a traceback.

    The lifespan leaves the fault in the application's state as ``startup_fault``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification; only the lifespan protocol is looked at."""
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return

        async def say(message: Message) -> None:
            fault = getattr(scope["app"].state, "startup_fault", None)
            if message["type"] == "lifespan.startup.failed" and isinstance(fault, KtrdrError):
                message = {
                    **message,
                    "message": " ".join(filter(None, (fault.message, fault.hint))),
                }
            await send(message)

        await self.app(scope, receive, say)
