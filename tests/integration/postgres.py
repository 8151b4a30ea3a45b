"""A PostgreSQL server of the tests' own, on the loopback interface."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from ktrdr.secret import Secret
from ktrdr.settings import Settings
from tests.integration.sshd import free_port

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

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[Settings]:
        """A fresh database, gone after the block.

        Args:
            template: The name of the database that it is a copy of.
        """
        name = f"test_{secrets.token_hex(6)}"
        new = sql.Identifier(name)
        self.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(new, sql.Identifier(template))
        )
        yield self.settings(name)
        self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(new))


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise FileNotFoundError("PostgreSQL is not installed: run `scripts/apt-need postgresql`")
    return found[-1].parent


def _as_postgres(command: list[str]) -> list[str]:
    # initdb and postgres refuse to run as root.
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]


@contextmanager
def running_server(*, durable: bool = False) -> Iterator[Server]:
    """A new server, stopped and removed after the block.

    Args:
        durable: Whether a commit waits for the disk, as it does in production.
    """
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
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {root}"
    options += " -c max_connections=200" + ("" if durable else " -c fsync=off")

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
