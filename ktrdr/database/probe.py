"""Probe of the database: whether it can be used with this login, and is the one of this release."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Final

import psycopg

from ktrdr.database.migrate import load_migrations
from ktrdr.database.pool import Pool, autocommit, first_line, wait_until_reachable
from ktrdr.database.queries import QuerySet, Row
from ktrdr.errors import DatabaseUnavailable, HostNotReady
from ktrdr.fitness import STALE_AFTER_S
from ktrdr.settings import Settings
from ktrdr.tokens import CLOCK_LEEWAY

QUERIES: Final = QuerySet("ktrdr.database")
PROBE_EVERY_S: Final = 2.0
PROBE_TIMEOUT_S: Final = 6.0
_MIGRATIONS: Final = "schema_migrations"
_HINT: Final = "Check the db service with `ktrdr status`, and DB_USER and DB_PASSWORD."
_SCHEMA_HINT: Final = "Deploy the core, or restore a backup of its database."
_LOCK_HINT: Final = "Look for locks in pg_stat_activity, or restart the service."


@cache
def schema_tables() -> tuple[str, ...]:
    """Return the tables that the migrations of this release create."""
    text = "\n".join(migration.sql for migration in load_migrations("pre"))
    return (_MIGRATIONS, *re.findall(r"^CREATE TABLE (\w+)", text, re.MULTILINE))


class DatabaseProbe:
    """Regular probe of the database over the connections that the process works with.

    Attributes:
        schema: Why the schema is not that of this release, or None.
        clock: Why the clock of this host or of the database is wrong, or None.
    """

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        tables: Sequence[str],
        migrate: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Create a probe of ``tables``; the backend has a function that adds what is missing."""
        self._settings, self._pool, self._tables = settings, pool, list(tables)
        self._migrate = migrate
        self._migration: asyncio.Future[None] | None = None
        self._probed_at = time.monotonic()
        self._problem: HostNotReady | None = DatabaseUnavailable("the database was not asked yet")
        self.schema: HostNotReady | None = None
        self.clock: HostNotReady | None = None

    @property
    def database(self) -> HostNotReady | None:
        """Return why the database cannot be used, or None."""
        silent_s = time.monotonic() - self._probed_at
        if self._problem is None and silent_s > STALE_AFTER_S:
            reason = f"the database has not answered for {silent_s:.0f} s"
            return DatabaseUnavailable(reason, hint=_LOCK_HINT)
        return self._problem

    @property
    def problem(self) -> HostNotReady | None:
        """Return why the database cannot be worked with, or None."""
        return self.database or self.schema

    async def run(self) -> None:
        """Probe regularly, until cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(PROBE_EVERY_S)

    async def check(self) -> None:
        """Probe once."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                self._problem = await self._ask()
        except (DatabaseUnavailable, TimeoutError):
            self._problem = await self._explain()
        except psycopg.Error as exc:
            reason = f"the database refuses what this service needs ({first_line(exc)})"
            self._problem = HostNotReady(reason, hint=_HINT)
        self._probed_at = time.monotonic()

    async def _ask(self) -> HostNotReady | None:
        applied = set[str]()
        async with autocommit(self._pool) as connection:
            asked_at = _now()
            row = await QUERIES.fetch_one(connection, "inspect_database", tables=self._tables)
            assert row is not None  # noqa: S101  # a query without a table returns a row
            self.clock = _check_clock((row["now"] - asked_at).total_seconds())
            if self._migrate and _MIGRATIONS not in row["missing"]:
                cursor = await connection.execute("SELECT name FROM schema_migrations")
                applied = {each["name"] for each in await cursor.fetchall()}
        self.schema = self._check_schema(row, applied)
        is_read_only = row["is_read_only"]
        return HostNotReady("the database is read-only", hint=_HINT) if is_read_only else None

    def _check_schema(self, row: Row, applied: set[str]) -> HostNotReady | None:
        pending = [each.name for each in load_migrations("pre") if each.name not in applied]
        if self._migrate and pending:
            reason = "they are being applied"
            # They may take longer than a probe.
            if self._migration is None or self._migration.done():
                if self._migration and (failed := self._migration.exception()):
                    reason = first_line(failed)
                self._migration = asyncio.ensure_future(self._migrate())
            text = f"the database lacks migrations ({', '.join(pending)}), as if new: {reason}"
            return HostNotReady(text, hint=_SCHEMA_HINT)
        for names, verb in ((row["missing"], "lacks"), (row["forbidden"], "denies DB_USER")):
            if names:
                text = f"the database {verb} the tables {', '.join(names)}"
                return HostNotReady(text, hint=_SCHEMA_HINT)
        return None

    async def _explain(self) -> HostNotReady:
        """Return why the pool gives no connection, as a new connection is told."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await wait_until_reachable(self._settings, deadline_s=0)
        except DatabaseUnavailable as exc:
            return exc
        except TimeoutError:
            return DatabaseUnavailable("the database does not answer", hint=_HINT)
        reason = "the database answers, but the connections of this service are blocked or lost"
        return DatabaseUnavailable(reason, hint=_LOCK_HINT)


def _now() -> datetime:
    return datetime.now(UTC)


def _check_clock(ahead_s: float) -> HostNotReady | None:
    if abs(ahead_s) <= CLOCK_LEEWAY.total_seconds():
        return None
    side = "behind" if ahead_s > 0 else "ahead of"
    return HostNotReady(
        f"the clock of this host is {abs(ahead_s):.0f} s {side} the database's",
        hint="Synchronise both with a time server (`timedatectl set-ntp true`).",
    )
