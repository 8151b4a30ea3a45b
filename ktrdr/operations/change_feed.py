"""Notifications of changed operations, by PostgreSQL's LISTEN and NOTIFY."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import Final

import psycopg
from psycopg import AsyncConnection

from ktrdr.database.pool import connection_arguments, first_line
from ktrdr.fitness import Progress
from ktrdr.settings import Settings

logger = logging.getLogger(__name__)

CHANNEL: Final = "ktrdr_operations"
# Notifications are lost while the connection is, so waiting ends after this time in any case.
WAIT_TIMEOUT_S: Final = 5.0
PROVE_EVERY_S: Final = 3.0


class ChangeFeed:
    """Listening connection, shared by all tasks that wait for changes.

    Attributes:
        is_closed: True once the backend stops; waiting tasks must then end.
        progress: Progress of the listening connection.
    """

    def __init__(self, settings: Settings) -> None:
        self.is_closed = False
        self.progress = Progress("the feed of changes")
        self._settings = settings
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)

    async def run(self) -> None:
        """Listen until cancelled, and reconnect whenever the connection is lost."""
        while True:
            try:
                await self._listen()
            except psycopg.OperationalError as exc:
                self.progress.failed(first_line(exc))
                logger.warning("change feed lost the database connection (%s)", type(exc).__name__)
                await asyncio.sleep(1)

    def close(self) -> None:
        """Close the feed and wake all waiting tasks, so that they end."""
        self.is_closed = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def wait_for_change(self, operation_id: str, timeout_s: float = WAIT_TIMEOUT_S) -> None:
        """Wait until the operation may have changed, or for ``timeout_s`` seconds."""
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
            self.progress.made()
            while True:
                async for notification in connection.notifies(timeout=PROVE_EVERY_S):
                    for event in self._waiting.get(notification.payload, ()):
                        event.set()
                # A connection that hangs receives nothing, like one that waits.
                await connection.execute("SELECT 1")
                self.progress.made()
