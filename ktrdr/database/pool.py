"""Connections to PostgreSQL that notice when the other end is gone."""

from __future__ import annotations

import asyncio
import logging
import select
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from ktrdr.errors import DatabaseUnavailable
from ktrdr.settings import Settings

logger = logging.getLogger(__name__)

Connection = AsyncConnection[DictRow]
Pool = AsyncConnectionPool[Connection]

CONNECT_TIMEOUT_S: Final = 5
# Whoever waits for a connection waits for a database that is away: better to say so soon.
POOL_TIMEOUT_S: Final = 4.0
# A query of ours takes milliseconds; one that takes this long is stuck.
STATEMENT_TIMEOUT_MS: Final = 30_000
IDLE_IN_TRANSACTION_TIMEOUT_MS: Final = 60_000
# Once prepared, a statement that gives all columns fails after a migration. So none is prepared
# however often it comes, except where it names its columns and asks for it: ``prepare=True``.
NOT_BY_ITSELF: Final = sys.maxsize
# After this long without an acknowledgement the kernel gives a connection up.
TCP_USER_TIMEOUT_MS: Final = 15_000


def connection_arguments(settings: Settings, application: str) -> dict[str, Any]:
    """Arguments for ``psycopg.connect``; by keyword, so that no password is ever part of a string.

    Args:
        settings: Where the database is and who we are to it.
        application: Shown in ``pg_stat_activity``.
    """
    return {
        "host": settings.db_host,
        "port": settings.db_port,
        "dbname": settings.db_name,
        "user": settings.db_user.reveal(),
        "password": settings.db_password.reveal(),
        "application_name": application,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "prepare_threshold": NOT_BY_ITSELF,
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
    """A closed pool of at most ``max_size`` connections; open it with ``async with``.

    Rows come as dictionaries. A connection is checked before it is handed out, so the first
    query after a restart of the database succeeds.
    """

    async def check(connection: Connection) -> None:
        if _has_something_to_say(connection):
            try:
                await pool.check_connection(connection)
            except psycopg.Error:
                # Where one has ended the others have too. Left to itself the pool finds out about
                # one after another, and pauses longer after each.
                await pool.check()
                raise

    pool = AsyncConnectionPool(
        kwargs={**connection_arguments(settings, application), "row_factory": dict_row},
        connection_class=AsyncConnection[DictRow],
        configure=_commit_each_statement,
        min_size=1,
        max_size=max_size,
        timeout=POOL_TIMEOUT_S,
        max_idle=300,
        check=check,
        open=False,
        name=application,
    )
    return pool


async def _commit_each_statement(connection: Connection) -> None:
    # Not an argument of the connection: the queue adds one of that name to those it finds there.
    await connection.set_autocommit(True)


def _has_something_to_say(connection: Connection) -> bool:
    """Whether there is something to be read of a connection that is idle.

    That is how its end shows, and nothing else is ever read of one that is idle. Asking the server
    every time would cost a round trip and find no more.
    """
    waiting = select.poll()
    waiting.register(connection.pgconn.socket, select.POLLIN)
    return bool(waiting.poll(0))


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """A connection with a transaction that commits at the end of the block.

    Raises:
        DatabaseUnavailable: The database cannot be reached, or was lost in mid-transaction.
    """
    async with autocommit(pool) as connection, connection.transaction():
        yield connection


@asynccontextmanager
async def autocommit(pool: Pool) -> AsyncIterator[Connection]:
    """A connection for a single statement, which commits by itself: one round trip, not three.

    Raises:
        DatabaseUnavailable: The database cannot be reached, or was lost in mid-statement.
    """
    try:
        async with pool.connection() as connection:
            yield connection
    except (psycopg.OperationalError, PoolTimeout) as exc:
        raise DatabaseUnavailable(
            f"the database does not answer ({type(exc).__name__})",
            hint="Look at the db service with `ktrdr status`; the request can be repeated.",
        ) from exc


async def wait_until_reachable(
    settings: Settings, *, deadline_s: float, application: str = "ktrdr"
) -> None:
    """Tries to connect, with growing pauses, until it works.

    Raises:
        DatabaseUnavailable: It did not within ``deadline_s`` seconds.
    """
    end = time.monotonic() + deadline_s
    pause = 0.2
    while True:
        try:
            connection = await AsyncConnection.connect(
                **connection_arguments(settings, application)
            )
        except psycopg.OperationalError as exc:
            if time.monotonic() + pause > end:
                raise DatabaseUnavailable(
                    f"the database at {settings.db_host}:{settings.db_port} cannot be used"
                    f" ({_reason(exc)})",
                    hint="Check that the db service is healthy, and DB_USER and DB_PASSWORD.",
                ) from exc
            logger.info("waiting for the database: %s", _reason(exc))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 3)
        else:
            await connection.close()
            return


def _reason(error: psycopg.OperationalError) -> str:
    """The first line of libpq's message, without the addresses it tried."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return first.rpartition("failed: ")[2].removeprefix("FATAL:  ")
