"""Connections to PostgreSQL that detect a lost server."""

from __future__ import annotations

import asyncio
import logging
import re
import select
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from ktrdr.errors import DatabaseUnavailable
from ktrdr.settings import Settings

logger = logging.getLogger(__name__)

Connection = AsyncConnection[DictRow]
Pool = AsyncConnectionPool[Connection]

CONNECT_TIMEOUT_S: Final = 5
# The pool tries again with growing delays, for this time. Then the next request tries anew, so that
# a database that returns after minutes is used at once.
RECONNECT_TIMEOUT_S: Final = 5.0
# Waiting for a connection means that the database is unavailable, so the error comes soon.
POOL_TIMEOUT_S: Final = 4.0
# Queries take milliseconds. One that takes this long is stuck.
STATEMENT_TIMEOUT_MS: Final = 30_000
IDLE_IN_TRANSACTION_TIMEOUT_MS: Final = 60_000
# A prepared statement that returns all columns fails after a migration. So no statement is prepared
# automatically; those that name their columns ask for it by ``prepare=True``.
NEVER_PREPARE: Final = sys.maxsize
# The kernel closes a connection after this time without an acknowledgement.
TCP_USER_TIMEOUT_MS: Final = 15_000


def connection_arguments(settings: Settings, application: str) -> dict[str, Any]:
    """Return the arguments for ``psycopg.connect``.

    They are keywords, so that no password becomes part of a string.

    Args:
        settings: Address and credentials of the database.
        application: Name shown in ``pg_stat_activity``.
    """
    return {
        "host": settings.db_host,
        "port": settings.db_port,
        "dbname": settings.db_name,
        "user": settings.db_user.reveal(),
        "password": settings.db_password.reveal(),
        "application_name": application,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "prepare_threshold": NEVER_PREPARE,
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": TCP_USER_TIMEOUT_MS,
        "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS}"
        f" -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_TIMEOUT_MS}"
        " -c timezone=UTC",
    }


def make_pool(settings: Settings, application: str, *, max_size: int) -> Pool:
    """Return a closed pool of at most ``max_size`` connections; open it with ``async with``.

    Rows are dictionaries. A connection is checked before use, so the first query after a restart of
    the database succeeds.
    """

    async def check(connection: Connection) -> None:
        if _is_readable(connection):
            try:
                await pool.check_connection(connection)
            except psycopg.Error:
                # If one connection is lost, the others are too. The pool alone would notice one
                # after another, and pause longer after each.
                await pool.check()
                raise

    pool = AsyncConnectionPool(
        kwargs={**connection_arguments(settings, application), "row_factory": dict_row},
        connection_class=AsyncConnection[DictRow],
        configure=_commit_each_statement,
        min_size=1,
        max_size=max_size,
        timeout=POOL_TIMEOUT_S,
        max_idle=60,
        reconnect_timeout=RECONNECT_TIMEOUT_S,
        check=check,
        open=False,
        name=application,
    )
    return pool


async def _commit_each_statement(connection: Connection) -> None:
    # Not a connection argument, because the queue adds an argument of the same name.
    await connection.set_autocommit(True)


def _is_readable(connection: Connection) -> bool:
    """Return True if an idle connection has data to read.

    An idle connection receives nothing but its end. Asking the server every time would cost a round
    trip and find no more.
    """
    poller = select.poll()
    poller.register(connection.pgconn.socket, select.POLLIN)
    return bool(poller.poll(0))


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """Provide a connection with a transaction that commits at the end of the block.

    Raises:
        DatabaseUnavailable: The database cannot be reached, or was lost during the transaction.
    """
    async with autocommit(pool) as connection, connection.transaction():
        yield connection


@asynccontextmanager
async def autocommit(pool: Pool) -> AsyncIterator[Connection]:
    """Provide a connection whose statements commit by themselves: one round trip, not three.

    Raises:
        DatabaseUnavailable: The database cannot be reached, or was lost during the statement.
    """
    try:
        async with pool.connection() as connection:
            yield connection
    except psycopg.Error as exc:
        # The server ends a session with a FATAL error of any kind, such as TimescaleDB's after its
        # update: "already loaded with a different version".
        ended = exc.diag.severity_nonlocalized == "FATAL"
        if not ended and not isinstance(exc, psycopg.OperationalError):
            raise
        raise DatabaseUnavailable(
            f"the database does not respond ({type(exc).__name__})",
            hint="Check the db service with `ktrdr status`, then repeat the request.",
        ) from exc


async def wait_until_reachable(settings: Settings, *, deadline_s: float) -> None:
    """Wait until the database accepts a connection; retry with growing delays.

    Raises:
        DatabaseUnavailable: No connection succeeded within ``deadline_s`` seconds.
    """
    deadline = time.monotonic() + deadline_s
    delay_s = 0.2
    while True:
        try:
            connection = await AsyncConnection.connect(**connection_arguments(settings, "ktrdr"))
        except psycopg.OperationalError as exc:
            if time.monotonic() + delay_s > deadline:
                raise DatabaseUnavailable(
                    f"the database at {settings.db_host}:{settings.db_port} cannot be used"
                    f" ({first_line(exc)})",
                    hint="Check that the db service is healthy, and check DB_USER and DB_PASSWORD.",
                ) from exc
            logger.info("waiting for the database: %s", first_line(exc))
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, 3)
        else:
            await connection.close()
            return


def first_line(error: BaseException) -> str:
    """Return the first line of an error, without the addresses that libpq tried and its user."""
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    reason = first.rpartition("failed: ")[2].removeprefix("FATAL:  ")
    return re.sub(r'\b(user|role) "[^"]*"', r"\1 DB_USER", reason)
