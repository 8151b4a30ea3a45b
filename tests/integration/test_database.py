"""Connections to PostgreSQL: their number, their loss, and the update of TimescaleDB."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from ktrdr.database.migrate import load_migrations, migrate
from ktrdr.database.pool import Pool, autocommit, connection_arguments, make_pool, transaction
from ktrdr.database.timescaledb import update_timescaledb
from ktrdr.errors import ConfigurationError, DatabaseUnavailable
from ktrdr.fleet.schema import apply_contract_migrations
from ktrdr.schemas import OperationRequest, OperationType
from ktrdr.secret import Secret
from ktrdr.settings import Settings
from tests.integration.postgres import PASSWORD, USER, PostgresServer, running_server
from tests.integration.processes import Runtime, ServerProcess, wait_for

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data/sp500_2007_2009.csv"
TRAINING = {"symbol": "SP500", "epochs": 150, "patience": 1000, "hidden_units": [48]}
# An extension with the name of TimescaleDB, and its versions. As in an image without the library of
# 1.0, statements fail as long as that version is installed.
EXTENSION = {
    "timescaledb.control": "default_version = '1.1'\nrelocatable = false\n",
    "timescaledb--1.0.sql": "CREATE FUNCTION guard() RETURNS event_trigger"
    " AS '$libdir/plpgsql', 'plpgsql_call_handler' LANGUAGE c;"
    " UPDATE pg_proc SET probin = '$libdir/timescaledb-1.0' WHERE proname = 'guard';"
    " CREATE EVENT TRIGGER guard ON ddl_command_start WHEN TAG IN ('CREATE TABLE')"
    " EXECUTE FUNCTION guard();",
    "timescaledb--1.0--1.1.sql": "DROP EVENT TRIGGER guard; DROP FUNCTION guard();",
    "timescaledb--1.1.sql": "SELECT 1;",
    "timescaledb--1.2.sql": "SELECT 1;",
}


def connect(settings: Settings, **changes: object) -> psycopg.Connection:
    arguments = {**connection_arguments(settings, "test"), **changes}
    return psycopg.connect(**arguments, autocommit=True)


# ------------------------------------------------------------------------------------ the number


def test_an_idle_worker_holds_two_connections_and_a_busy_one_at_most_four(
    runtime: Runtime, backend: ServerProcess
) -> None:
    client = runtime.client(backend)
    with DATA.open("rb") as file:
        client.import_dataset(file, "SP500", "1d")
    runtime.worker("training", backend)
    with connect(runtime.settings) as connection:

        def count() -> int:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name LIKE 'training-%'"
            ).fetchone()
            assert row
            return int(row[0])

        wait_for("the worker's connections", lambda: count() >= 2)
        time.sleep(1.5)
        assert count() == 2
        request = OperationRequest(operation_type=OperationType.TRAINING, parameters=TRAINING)
        operation = client.submit(request, idempotency_key=uuid4().hex).operation_id
        busy = set()
        while not client.get_operation(operation).status.is_final:
            busy.add(count())
            time.sleep(0.05)
        assert max(busy) <= 4


# -------------------------------------------------------------------------------------- the loss


def test_a_database_that_returns_after_a_longer_outage_is_used_within_seconds() -> None:
    async def outage(server: PostgresServer, settings: Settings) -> float:
        async def use() -> None:
            async with autocommit(pool) as connection:
                await connection.execute("SELECT 1")

        async def use_when_available() -> float:
            while True:
                try:
                    await use()
                except DatabaseUnavailable:
                    await asyncio.sleep(0.5)
                else:
                    return time.monotonic()

        async with make_pool(settings, "test", max_size=1) as pool:
            await use()
            await asyncio.to_thread(server.control, "stop", "-m", "immediate")
            using = asyncio.create_task(use_when_available())
            # With delays that grow for ever, the next attempt would come 15 s after the stop.
            await asyncio.sleep(8)
            await asyncio.to_thread(server.control, "start")
            returned_at = time.monotonic()
            return await using - returned_at

    with running_server() as server, server.database() as settings:
        assert asyncio.run(outage(server, settings)) < 4.5


def test_a_session_that_the_server_ends_is_an_unavailable_database(database: Settings) -> None:
    async def be_ended() -> None:
        async with make_pool(database, "test", max_size=1) as pool, transaction(pool) as connection:
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 50")
            await asyncio.sleep(0.3)
            await connection.execute("SELECT 1")

    # Not an operational error for the driver, but the session is lost.
    with pytest.raises(DatabaseUnavailable, match="IdleInTransactionSessionTimeout"):
        asyncio.run(be_ended())


# ----------------------------------------------------------------------------------- TimescaleDB


@pytest.fixture(scope="module")
def timescaledb() -> Iterator[PostgresServer]:
    """Run a server that knows the extension, and logs all statements with their session."""
    logging = "-c log_statement=all -c log_line_prefix=%p:"
    with running_server(options=logging, extensions=EXTENSION) as server:
        yield server


def version(settings: Settings) -> str:
    with connect(settings) as connection:
        row = connection.execute(
            "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
        ).fetchone()
    return row[0] if row else ""


def install(settings: Settings, number: str) -> None:
    with connect(settings) as connection:
        create = sql.SQL("CREATE EXTENSION timescaledb VERSION {}")
        connection.execute(create.format(sql.Literal(number)))


def test_the_backend_can_start_where_the_image_lacks_the_installed_version(
    timescaledb: PostgresServer,
) -> None:
    with timescaledb.database() as settings:
        install(settings, "1.0")
        with connect(settings) as connection, pytest.raises(psycopg.errors.UndefinedFile):
            connection.execute("CREATE TABLE t ()")
        assert asyncio.run(migrate(settings))[-1] == load_migrations("pre")[-1].name
        assert version(settings) == "1.1"


def test_a_version_that_the_image_can_use_is_not_updated_at_once(
    timescaledb: PostgresServer,
) -> None:
    with timescaledb.database() as settings:
        asyncio.run(migrate(settings))
        install(settings, "1.0")
        with connect(settings) as connection:
            connection.execute("ALTER EVENT TRIGGER guard DISABLE")
        assert asyncio.run(migrate(settings)) == []
        # An automatic rollback could not use a database that was updated.
        assert version(settings) == "1.0"
        assert "timescaledb" in asyncio.run(apply_contract_migrations(settings))
        assert version(settings) == "1.1"


def test_the_update_is_the_first_statement_of_its_session(timescaledb: PostgresServer) -> None:
    with timescaledb.database() as settings:
        install(settings, "1.0")
        assert asyncio.run(update_timescaledb(settings)) == ["timescaledb"]
    log = (timescaledb.directory / "log").read_text()
    (session, *_) = re.findall(r"^(\d+):.* ALTER EXTENSION timescaledb UPDATE$", log, re.MULTILINE)[
        ::-1
    ]
    first = re.search(rf"^{session}:.*statement: (.*)$", log, re.MULTILINE)
    assert first
    assert first[1] == "ALTER EXTENSION timescaledb UPDATE"


def test_other_sessions_go_on_after_the_update_without_an_error(
    timescaledb: PostgresServer,
) -> None:
    async def session_id(pool: Pool) -> int:
        async with autocommit(pool) as connection:
            await connection.execute("SELECT 1")
            return connection.info.backend_pid

    async def update_meanwhile(settings: Settings) -> tuple[int, int]:
        async with make_pool(settings, "test", max_size=1) as pool:
            before = await session_id(pool)
            await update_timescaledb(settings)
            return before, await session_id(pool)

    with timescaledb.database() as settings:
        install(settings, "1.0")
        before, after = asyncio.run(update_meanwhile(settings))
    # TimescaleDB refuses sessions that have loaded the former version.
    assert before != after


@pytest.mark.parametrize("number", [None, "1.1"])
def test_without_another_version_nothing_is_done(timescaledb: PostgresServer, number) -> None:
    with timescaledb.database() as settings:
        if number:
            install(settings, number)
        assert asyncio.run(update_timescaledb(settings)) == []


def test_a_newer_version_than_the_images_is_one_plain_sentence(timescaledb: PostgresServer) -> None:
    with timescaledb.database() as settings:
        install(settings, "1.2")
        with pytest.raises(ConfigurationError) as refused:
            asyncio.run(update_timescaledb(settings))
    assert refused.value.message == (
        "TimescaleDB cannot be updated to the version of the database's image: extension "
        '"timescaledb" has no update path from version "1.2" to version "1.1"'
    )
    assert "whose image has the newer version" in (refused.value.hint or "")


def test_a_role_that_may_not_update_the_extension_is_told_what_its_owner_can_do(
    timescaledb: PostgresServer,
) -> None:
    with timescaledb.database() as settings:
        install(settings, "1.0")
        with connect(settings) as connection:
            connection.execute("CREATE ROLE poor LOGIN PASSWORD 'poor'")
        poor = settings.model_copy(
            update={"db_user": Secret("poor"), "db_password": Secret("poor")}
        )
        with pytest.raises(ConfigurationError, match="must be owner of extension") as refused:
            asyncio.run(update_timescaledb(poor))
    assert "as the extension's owner" in (refused.value.hint or "")


def test_the_roles_password_is_set_without_the_database_that_an_older_image_cannot_use(
    postgres: PostgresServer,
) -> None:
    script = ROOT / "ktrdr/deployment/homelab/scripts/database.sh"
    done = subprocess.run(
        ["sh", script, "10"],
        input="SELECT rolname FROM pg_roles WHERE rolname = CURRENT_USER;\n",
        env={
            "PATH": os.environ["PATH"],
            "POSTGRES_USER": USER,
            "POSTGRES_DB": "unusable",
            "PGHOST": str(postgres.directory),
            "PGPORT": str(postgres.port),
            "PGPASSWORD": PASSWORD,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{USER}\n", "")
