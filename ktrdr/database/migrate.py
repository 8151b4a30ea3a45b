"""Brings the schema up to date: numbered SQL, each file once, one owner at a time.

``pre`` migrations only add, so the previous release goes on working beside them; the backend
applies them when it starts. ``post`` migrations take away what nothing uses any more, once every
host runs the new release.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final, Literal, LiteralString

import psycopg
from procrastinate.schema import SchemaManager
from psycopg import AsyncConnection, sql

from ktrdr.database.pool import connection_arguments
from ktrdr.errors import ConfigurationError, DatabaseUnavailable
from ktrdr.settings import Settings

logger = logging.getLogger(__name__)

Phase = Literal["pre", "post"]
# Any number will do as long as nobody else locks the same one.
ADVISORY_LOCK: Final = 0x6B74_7264_72
# The queue's own tables come with its package, in the version that is installed.
QUEUE_SCHEMA: Final = "0000_queue"

LOCK_TIMEOUT_MS: Final = 10_000

_LEDGER: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    name: str
    sql: LiteralString

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, which must not change once applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations(phase: Phase) -> list[Migration]:
    """All migrations of a phase, in order."""
    found = [Migration(QUEUE_SCHEMA, SchemaManager.get_schema())] if phase == "pre" else []
    directory = resources.files("ktrdr.database").joinpath("migrations", phase)
    if directory.is_dir():
        for file in sorted(directory.iterdir(), key=lambda f: f.name):
            if file.name.endswith(".sql"):
                text = file.read_text(encoding="utf-8")
                found.append(Migration(file.name.removesuffix(".sql"), text))
    return found


@cache
def contracting() -> tuple[str, ...]:
    """The names of the post migrations that this release knows, and so can live with."""
    return tuple(migration.name for migration in migrations("post"))


async def migrate(settings: Settings, phases: Sequence[Phase] = ("pre",)) -> list[str]:
    """Applies what is missing and gives the names of what it applied.

    Several callers may come at once: all but one wait, and then find nothing to do.

    Raises:
        ConfigurationError: An applied migration's text differs from ours.
    """
    arguments = connection_arguments(settings, "ktrdr-migrate")
    connection = await AsyncConnection.connect(**arguments, autocommit=True)
    async with connection:
        # Waiting for the lock may take as long as another's migration does.
        await connection.execute("SET statement_timeout = 0")
        await connection.execute("SELECT pg_advisory_lock(%s)", (ADVISORY_LOCK,))
        # A migration that waits for a table holds up all who come after it: better it gives up.
        await connection.execute(
            sql.SQL("SET lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT_MS))
        )
        # The session's end releases the lock, also when this process dies.
        await connection.execute(_LEDGER)
        return [
            migration.name
            for phase in phases
            for migration in migrations(phase)
            if await _apply(connection, migration)
        ]


async def missing(settings: Settings, phase: Phase) -> list[str]:
    """The names of a phase's migrations that are not applied yet."""
    arguments = connection_arguments(settings, "ktrdr-migrate")
    connection = await AsyncConnection.connect(**arguments, autocommit=True)
    async with connection:
        await connection.execute(_LEDGER)
        cursor = await connection.execute("SELECT name FROM schema_migrations")
        applied = {row[0] for row in await cursor.fetchall()}
    return [each.name for each in migrations(phase) if each.name not in applied]


async def _apply(connection: psycopg.AsyncConnection, migration: Migration) -> bool:
    cursor = await connection.execute(
        "SELECT checksum FROM schema_migrations WHERE name = %s", (migration.name,)
    )
    row = await cursor.fetchone()
    if row is not None:
        # The queue's schema may be newer in a newer package; its own migrations bridge that.
        if row[0] != migration.checksum and migration.name != QUEUE_SCHEMA:
            raise ConfigurationError(
                f"migration {migration.name} was changed after it had been applied",
                hint="Deploy the release the database was migrated with, or restore a backup.",
            )
        return False
    try:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO schema_migrations (name, checksum) VALUES (%s, %s)",
                (migration.name, migration.checksum),
            )
    except psycopg.errors.LockNotAvailable as exc:
        raise DatabaseUnavailable(
            f"migration {migration.name} found its tables in use for {LOCK_TIMEOUT_MS // 1000} s",
            hint="Nothing has changed; see what holds them in pg_stat_activity, and start again.",
        ) from exc
    logger.info("applied migration %s", migration.name)
    return True
