"""PostgreSQL server for tests, on the loopback interface."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from ktrdr.secret import Secret
from ktrdr.settings import Settings
from tests.integration.sshd import free_port

# A name and a password that break careless quoting. PostgreSQL itself rejects quotes, dollars and
# backslashes in the name of a role that owns extensions.
USER = "kt rdr=é"
PASSWORD = "p w'd\"\\$`é日本%:@/#"


@dataclass(frozen=True)
class PostgresServer:
    """Running PostgreSQL server."""

    port: int
    directory: Path
    control: Callable[..., None]

    def settings(self, database: str) -> Settings:
        """Return the settings of a database on this server."""
        return Settings(
            db_host="127.0.0.1",
            db_port=self.port,
            db_name=database,
            db_user=Secret(USER),
            db_password=Secret(PASSWORD),
        )

    def execute(self, statement: sql.SQL | sql.Composed, database: str = "postgres") -> None:
        """Execute a statement as the superuser."""
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
        """Create a database for the block, and drop it afterwards.

        Args:
            template: Database to copy.
        """
        name = f"test_{secrets.token_hex(6)}"
        identifier = sql.Identifier(name)
        self.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(identifier, sql.Identifier(template))
        )
        yield self.settings(name)
        self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))


def _binaries() -> Path:
    paths = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not paths:
        raise FileNotFoundError("PostgreSQL is not installed: run `scripts/apt-need postgresql`")
    return paths[-1].parent


def _with_extensions(binaries: Path, root: Path, files: Mapping[str, str]) -> Path:
    """Copy the programs so that they find further extensions, and return their directory.

    PostgreSQL looks for its files at the same place relative to its programs.
    """
    programs, share = root / binaries.relative_to("/"), Path("/usr/share/postgresql")
    share /= binaries.parent.name
    programs.mkdir(parents=True)
    (programs.parent / "lib").symlink_to(binaries.parent / "lib")
    for name in ("initdb", "pg_ctl", "postgres"):
        shutil.copy(binaries / name, programs)
    copy = root / share.relative_to("/")
    (copy / "extension").mkdir(parents=True)
    for path in [*share.iterdir(), *(share / "extension").iterdir()]:
        if path.name != "extension":
            (copy / path.relative_to(share)).symlink_to(path)
    for name, text in files.items():
        (copy / "extension" / name).write_text(text)
    return programs


def _as_postgres(command: list[str]) -> list[str]:
    # initdb and postgres refuse to run as root.
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]


@contextmanager
def running_server(
    *, durable: bool = False, options: str = "", extensions: Mapping[str, str] | None = None
) -> Iterator[PostgresServer]:
    """Run a new server during the block, and remove it afterwards.

    Args:
        durable: True lets a commit wait for the disk, as in production.
        options: Further options of the server.
        extensions: Files of extensions that the server can install, by name.
    """
    binaries, port = _binaries(), free_port()
    root = Path(tempfile.mkdtemp(prefix="ktrdr-pg-"))
    if extensions:
        binaries = _with_extensions(binaries, root, extensions)
    password_file = root / "password"
    password_file.write_text(PASSWORD)
    as_root = os.geteuid() == 0
    wrap = _as_postgres if as_root else list
    if as_root:
        shutil.chown(root, "postgres", "postgres")
        shutil.chown(password_file, "postgres", "postgres")
    data = root / "data"
    initdb = [str(binaries / "initdb"), "-D", str(data), "-U", USER, f"--pwfile={password_file}"]
    options += f" -p {port} -c listen_addresses=127.0.0.1 -k {root}"
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
        yield PostgresServer(port, root, control)
    finally:
        control("stop", "-m", "immediate")
        shutil.rmtree(root, ignore_errors=True)
