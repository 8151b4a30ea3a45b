"""Migration of the database schema by numbered SQL files, each applied once.

``pre`` migrations only add, so the previous release still works with them. The backend applies them
when it starts. ``post`` migrations are the contract migrations: they remove what only earlier
releases use, once every host runs the new release.
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
from ktrdr.database.timescaledb import update_timescaledb
from ktrdr.errors import ConfigurationError, DatabaseUnavailable
from ktrdr.settings import Settings

logger = logging.getLogger(__name__)

Phase = Literal["pre", "post"]
# An arbitrary number that nothing else locks.
ADVISORY_LOCK: Final = 0x6B74_7264_72
# The queue's package brings its own tables, in the installed version.
QUEUE_SCHEMA: Final = "0000_queue"

LOCK_TIMEOUT_MS: Final = 10_000

_CREATE_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """Numbered change of the schema."""

    name: str
    sql: LiteralString

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, which must not change once applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations(phase: Phase) -> list[Migration]:
    """Return all migrations of a phase in their order."""
    migrations = [Migration(QUEUE_SCHEMA, SchemaManager.get_schema())] if phase == "pre" else []
    directory = resources.files("ktrdr.database").joinpath("migrations", phase)
    if directory.is_dir():
        for file in sorted(directory.iterdir(), key=lambda f: f.name):
            if file.name.endswith(".sql"):
                text = file.read_text(encoding="utf-8")
                migrations.append(Migration(file.name.removesuffix(".sql"), text))
    return migrations


@cache
def contract_migrations() -> tuple[str, ...]:
    """Return the names of the contract migrations that this release can run with."""
    return tuple(migration.name for migration in load_migrations("post"))


async def migrate(settings: Settings, phases: Sequence[Phase] = ("pre",)) -> list[str]:
    """Apply the pending migrations and return their names.

    Of several concurrent callers, one applies them and the others wait for it.

    Raises:
        ConfigurationError: The text of an applied migration has changed, or the database needs a
            version of TimescaleDB that its image does not have.
        DatabaseUnavailable: A table of a migration is in use.
    """
    try:
        return await _migrate(settings, phases)
    except psycopg.errors.UndefinedFile:
        # The image has no library for the database's version of TimescaleDB.
        await update_timescaledb(settings)
        return await _migrate(settings, phases)


async def _migrate(settings: Settings, phases: Sequence[Phase]) -> list[str]:
    arguments = connection_arguments(settings, "ktrdr-migrate")
    connection = await AsyncConnection.connect(**arguments, autocommit=True)
    async with connection:
        # Waiting for the lock may take as long as another process's migration.
        await connection.execute("SET statement_timeout = 0")
        await connection.execute("SELECT pg_advisory_lock(%s)", (ADVISORY_LOCK,))
        # A migration that waits for a table blocks every later query of it, so it gives up.
        await connection.execute(
            sql.SQL("SET lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT_MS))
        )
        # The end of the session releases the lock, even if this process dies.
        await connection.execute(_CREATE_TABLE)
        return [
            migration.name
            for phase in phases
            for migration in load_migrations(phase)
            if await _apply(connection, migration)
        ]


async def list_pending(settings: Settings, phase: Phase) -> list[str]:
    """Return the names of a phase's migrations that are not applied."""
    arguments = connection_arguments(settings, "ktrdr-migrate")
    connection = await AsyncConnection.connect(**arguments, autocommit=True)
    async with connection:
        await connection.execute(_CREATE_TABLE)
        cursor = await connection.execute("SELECT name FROM schema_migrations")
        applied = {row[0] for row in await cursor.fetchall()}
    return [new.name for new in load_migrations(phase) if new.name not in applied]


async def _apply(connection: psycopg.AsyncConnection, migration: Migration) -> bool:
    cursor = await connection.execute(
        "SELECT checksum FROM schema_migrations WHERE name = %s", (migration.name,)
    )
    row = await cursor.fetchone()
    if row is not None:
        # A newer package may bring a newer queue schema; its own migrations bridge that.
        if row[0] != migration.checksum and migration.name != QUEUE_SCHEMA:
            raise ConfigurationError(
                f"migration {migration.name} has changed since it was applied",
                hint="Deploy the release that migrated the database, or restore a backup.",
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
            f"the tables of migration {migration.name} were in use for {LOCK_TIMEOUT_MS // 1000} s",
            hint="Nothing has changed. Find the locking session in pg_stat_activity, then retry.",
        ) from exc
    logger.info("applied migration %s", migration.name)
    return True
