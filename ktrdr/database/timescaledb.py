"""Update of the extension TimescaleDB to the version that the database's image brings.

A newer image can use a database of an older version, but not the reverse. So the update makes it
impossible to return to the former image, and waits until the release has proved itself.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, LiteralString

import psycopg
from psycopg import AsyncConnection

from ktrdr.database.pool import connection_arguments
from ktrdr.errors import ConfigurationError, DatabaseUnavailable, KtrdrError
from ktrdr.settings import Settings

logger = logging.getLogger(__name__)

# By then a deploy has succeeded, or has returned to the former release.
SETTLED_AFTER_S: Final = 900.0
_LOCK_TIMEOUT_MS: Final = 10_000

_VERSIONS: Final = """
SELECT installed_version, default_version FROM pg_available_extensions WHERE name = 'timescaledb'
"""
# Sessions that use the former version fail at their next statement. Ended while idle, they are
# replaced without any error.
_END_OTHER_SESSIONS: Final = """
SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
"""


async def update_once_settled(settings: Settings) -> None:
    """Wait, then update the extension; log why it cannot be updated."""
    await asyncio.sleep(SETTLED_AFTER_S)
    try:
        await update_timescaledb(settings)
    except (KtrdrError, psycopg.Error) as exc:
        logger.warning("%s", exc)


async def update_timescaledb(settings: Settings) -> list[str]:
    """Update the extension if the image brings another version; return its name if so.

    Raises:
        ConfigurationError: There is no update to that version, or the role may not do it.
        DatabaseUnavailable: The extension is in use.
    """
    try:
        versions = await _execute(settings, _VERSIONS)
        if versions is None or versions[0] in (None, versions[1]):
            return []
    except psycopg.errors.UndefinedFile:
        # Without the library of the installed version, only the update works.
        pass
    try:
        await _execute(settings, "ALTER EXTENSION timescaledb UPDATE", _END_OTHER_SESSIONS)
    except psycopg.Error as exc:
        in_use = isinstance(exc, psycopg.errors.LockNotAvailable)
        reason = str(exc).partition("\n")[0]
        raise (DatabaseUnavailable if in_use else ConfigurationError)(
            f"TimescaleDB cannot be updated to the version of the database's image: {reason}",
            hint="Deploy a db service whose image has the newer version, or run `ALTER EXTENSION "
            "timescaledb UPDATE` with `psql -X` as the extension's owner.",
        ) from exc
    logger.info("updated TimescaleDB to the version of the database's image")
    return ["timescaledb"]


async def _execute(settings: Settings, *statements: LiteralString) -> tuple[Any, ...] | None:
    """Execute statements in a new session, since only its first one may update the extension."""
    arguments = connection_arguments(settings, "ktrdr-migrate")
    arguments["options"] += f" -c statement_timeout=0 -c lock_timeout={_LOCK_TIMEOUT_MS}"
    async with await AsyncConnection.connect(**arguments, autocommit=True) as connection:
        for statement in statements:
            cursor = await connection.execute(statement)
        return await cursor.fetchone() if cursor.description else None
