"""Wakes those who watch an operation, by PostgreSQL's notifications."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import Final

import psycopg
from psycopg import AsyncConnection

from ktrdr.database.pool import connection_arguments
from ktrdr.settings import Settings

logger = logging.getLogger(__name__)

CHANNEL: Final = "ktrdr_operations"
# A notification may be lost while the connection is; whoever waits looks again after this.
LOOK_AGAIN_S: Final = 5.0


class ChangeFeed:
    """One listening connection for all who watch.

    Attributes:
        closed: Whether those who watch are to go, because the backend is about to stop.
    """

    def __init__(self, settings: Settings) -> None:
        self.closed = False
        self._settings = settings
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)

    async def run(self) -> None:
        """Listens until cancelled, and connects again whenever the connection is lost."""
        while True:
            try:
                await self._listen()
            except psycopg.OperationalError as exc:
                logger.warning("the change feed lost the database (%s)", type(exc).__name__)
                await asyncio.sleep(1)

    def close(self) -> None:
        """Wakes all who watch; they find it closed, and end."""
        self.closed = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def changed(self, operation_id: str, timeout_s: float = LOOK_AGAIN_S) -> None:
        """Returns when the operation may have changed, or after ``timeout_s``."""
        event = asyncio.Event()
        self._waiting[operation_id].add(event)
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            return
        finally:
            self._waiting[operation_id].discard(event)
            if not self._waiting[operation_id]:
                del self._waiting[operation_id]

    async def _listen(self) -> None:
        arguments = connection_arguments(self._settings, "ktrdr-feed")
        connection = await AsyncConnection.connect(**arguments, autocommit=True)
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            async for notification in connection.notifies():
                for event in self._waiting.get(notification.payload, ()):
                    event.set()
