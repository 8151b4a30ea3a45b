"""A real PostgreSQL for the session, a fresh database for every test that asks for one."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from ktrdr.secret import Secret
from ktrdr.settings import Settings
from tests.integration.processes import Process, Site, site

# A name and a password that break whatever pastes them into a string. PostgreSQL itself refuses
# quotes, dollars and backslashes in the name of a role that owns extensions.
USER = "kt rdr=é"
PASSWORD = "p w'd\"\\$`é日本%:@/#"


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL on the loopback interface."""

    port: int
    directory: Path
    control: Callable[..., None]

    def settings(self, database: str) -> Settings:
        """How the runtime addresses a database of it."""
        return Settings(
            db_host="127.0.0.1",
            db_port=self.port,
            db_name=database,
            db_user=Secret(USER),
            db_password=Secret(PASSWORD),
        )

    def execute(self, statement: sql.SQL | sql.Composed, database: str = "postgres") -> None:
        """Runs one statement as the superuser."""
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            dbname=database,
            autocommit=True,
        ) as connection:
            connection.execute(statement)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.fail("PostgreSQL is not installed: run `scripts/apt-need postgresql`")
    return found[-1].parent


def _as_postgres(command: list[str]) -> list[str]:
    # initdb and postgres refuse to run as root.
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server of this session's own, gone at its end."""
    binaries, port = _binaries(), free_port()
    root = Path(tempfile.mkdtemp(prefix="ktrdr-pg-"))
    password_file = root / "password"
    password_file.write_text(PASSWORD)
    as_root = os.geteuid() == 0
    wrap = _as_postgres if as_root else list
    if as_root:
        shutil.chown(root, "postgres", "postgres")
        shutil.chown(password_file, "postgres", "postgres")
    data = root / "data"
    initdb = [str(binaries / "initdb"), "-D", str(data), "-U", USER, f"--pwfile={password_file}"]
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {root}"

    def control(*action: str) -> None:
        command = [str(binaries / "pg_ctl"), "-D", str(data), "-l", str(root / "log"), "-w"]
        start = ["-o", options] if action[0] in ("start", "restart") else []
        subprocess.run(
            wrap([*command, *start, *action]), check=True, cwd=root, stdout=subprocess.DEVNULL
        )

    subprocess.run(
        wrap([*initdb, "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"]),
        check=True,
        cwd=root,
        stdout=subprocess.DEVNULL,
    )
    control("start")
    try:
        yield Server(port, root, control)
    finally:
        control("stop", "-m", "immediate")
        shutil.rmtree(root, ignore_errors=True)


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
    name = f"test_{secrets.token_hex(6)}"
    new = sql.Identifier(name)
    postgres.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(new, sql.Identifier(template))
    )
    yield postgres.settings(name)
    postgres.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(new))


@pytest.fixture
def empty_database(postgres: Server) -> Iterator[Settings]:
    """The settings of a fresh database with nothing in it."""
    name = f"empty_{secrets.token_hex(6)}"
    postgres.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield postgres.settings(name)
    postgres.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def place(database: Settings, tmp_path: Path) -> Iterator[Site]:
    """A database and a shared directory, for processes that end with the test."""
    with site(database, tmp_path) as found:
        yield found


@pytest.fixture
def backend(place: Site) -> Process:
    """A backend that answers."""
    return place.backend()
