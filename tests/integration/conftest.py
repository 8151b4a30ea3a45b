"""A real PostgreSQL for the session, a fresh database for every test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

from ktrdr.deployment.ssh.program import SshProgram
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.settings import Settings
from tests.integration.postgres import Server, running_server
from tests.integration.processes import Process, Site, site
from tests.integration.sshd import Sshd


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server of this session's own, gone at its end."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def template(postgres: Server) -> str:
    """The name of a database whose schema is up to date, to be copied."""
    import asyncio

    from ktrdr.database.migrate import migrate

    name = "template_ktrdr"
    postgres.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    asyncio.run(migrate(postgres.settings(name)))
    return name


@pytest.fixture
def database(postgres: Server, template: str) -> Iterator[Settings]:
    """The settings of a fresh database with the present schema."""
    with postgres.database(template) as settings:
        yield settings


@pytest.fixture
def empty_database(postgres: Server) -> Iterator[Settings]:
    """The settings of a fresh database with nothing in it."""
    with postgres.database() as settings:
        yield settings


@pytest.fixture
def place(database: Settings, tmp_path: Path) -> Iterator[Site]:
    """A database and a shared directory, for processes that end with the test."""
    with site(database, tmp_path) as found:
        yield found


@pytest.fixture
def backend(place: Site) -> Process:
    """A backend that answers."""
    return place.backend()


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
