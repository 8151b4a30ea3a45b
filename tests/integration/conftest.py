"""Fixtures: a PostgreSQL server for the session, and a fresh database for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

from ktrdr.deployment.ssh.program import SshProgram
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.settings import Settings
from tests.integration.postgres import PostgresServer, running_server
from tests.integration.processes import Runtime, ServerProcess, open_runtime
from tests.integration.sshd import Sshd


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL server during the session."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def template(postgres: PostgresServer) -> str:
    """Return the name of a template database with the present schema."""
    import asyncio

    from ktrdr.database.migrate import migrate

    name = "template_ktrdr"
    postgres.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    asyncio.run(migrate(postgres.settings(name)))
    return name


@pytest.fixture
def database(postgres: PostgresServer, template: str) -> Iterator[Settings]:
    """Return the settings of a fresh database with the present schema."""
    with postgres.database(template) as settings:
        yield settings


@pytest.fixture
def empty_database(postgres: PostgresServer) -> Iterator[Settings]:
    """Return the settings of a fresh, empty database."""
    with postgres.database() as settings:
        yield settings


@pytest.fixture
def runtime(database: Settings, tmp_path: Path) -> Iterator[Runtime]:
    """Provide a database and a shared directory for processes that end with the test."""
    with open_runtime(database, tmp_path) as runtime:
        yield runtime


@pytest.fixture
def backend(runtime: Runtime) -> ServerProcess:
    """Start a backend and wait until it responds."""
    return runtime.backend()


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An OpenSSH server on the loopback interface."""
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def ssh(sshd: Sshd) -> Iterator[SshTransport]:
    """The real transport, to that server under the name ``node``."""
    with SshTransport(SshProgram(config=sshd.client_config())) as transport:
        yield transport
