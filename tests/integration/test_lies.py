"""Ways to make a service unable to work while its process lives: its health check says each."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg import sql

from deploy.healthcheck import fetch, find_problem
from ktrdr.client.backend import BackendClient
from ktrdr.errors import KtrdrError, SecretsError
from ktrdr.fleet.leader import LEADER_LOCK
from ktrdr.operations.shared_directory import MARK
from ktrdr.schemas import OperationRequest, OperationStatus, OperationType
from ktrdr.secret import Secret
from ktrdr.tokens import Role, decode_unverified
from tests.integration.mounts import fill, mounted, small_file_system
from tests.integration.postgres import PASSWORD, PostgresServer
from tests.integration.processes import (
    Runtime,
    ServerProcess,
    open_runtime,
    run_ktrdr,
    token,
    wait_for,
)
from tests.integration.sshd import free_port

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "sp500_2007_2009.csv"
SEEN_WITHIN_S = 15
ROLE = "plain"
LYING = {"PYTHONPATH": str(ROOT)}
TRAINING = OperationRequest(
    operation_type=OperationType.TRAINING,
    parameters={"symbol": "SP500", "epochs": 3, "hidden_units": [8]},
)


@dataclass
class Stage:
    """A backend and a worker that work, and the database and directories that they use."""

    server: PostgresServer
    runtime: Runtime
    directory: Path
    processes: dict[str, ServerProcess] = field(default_factory=dict)

    @property
    def database(self) -> str:
        return self.runtime.settings.db_name

    def start(self, lie: str = "", **worker: Any) -> None:
        """Start a backend and a worker, which lie at `tell`."""
        environment = {**LYING, "LIE": lie} if lie else {}
        lying = "tests.integration.lying:{}"
        kind = {"backend": "ktrdr.api.main:app", "training": "ktrdr.workers.training:app"}
        if lie:
            kind = {name: lying.format(name) for name in kind}
        start = self.runtime.start
        self.runtime.start = lambda entry_point, port, **extra: start(  # type: ignore[method-assign]
            kind["backend" if "api" in entry_point else "training"],
            port,
            **{**extra, **environment},
        )
        self.processes["backend"] = self.runtime.backend()
        self.processes["worker"] = self.runtime.worker(
            "training", self.processes["backend"], **worker
        )

    def tell(self, *names: str) -> None:
        """Make processes lie."""
        for name in names:
            self.processes[name].signal(signal.SIGUSR1)

    def says(self, name: str) -> str:
        """Return why a process is unhealthy, as the container's health check finds it."""
        process = self.processes[name]
        path = "/health" if name == "worker" else "/api/v1/health"
        document = fetch(int(process.url.rpartition(":")[2]), path)
        assert process.popen.poll() is None, f"{name} ended: {process.output[-3000:]}"
        return "does not answer" if document is None else find_problem(document)

    def wait_until_healthy(self, *names: str) -> None:
        for name in names or tuple(self.processes):
            wait_for(f"the health of {name}", partial(self.is_healthy, name), 40)

    def is_healthy(self, name: str) -> bool:
        return self.says(name) == ""

    def has_said(self, name: str, sentence: str) -> bool:
        return sentence in self.says(name)

    def execute(self, statement: str, database: str = "", **names: str) -> None:
        """Execute a statement as the superuser in the services' database, or in another one."""
        identifiers = {name: sql.Identifier(value) for name, value in names.items()}
        text = sql.SQL(statement).format(**identifiers)
        self.server.execute(text, database or self.database)

    def end_sessions(self, application: str = "") -> None:
        """End the services' sessions, as a restart of the database does."""
        self.server.execute(
            sql.SQL(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}"
                " AND usename = {} AND application_name LIKE {}"
            ).format(self.database, ROLE, f"%{application}%")
        )

    def client(self) -> BackendClient:
        return self.runtime.client(self.processes["backend"])

    def submit(self) -> str:
        """Queue a training whose data exist."""
        client = self.client()
        with DATA.open("rb") as file:
            client.import_dataset(file, "SP500", "1d")
        return client.submit(TRAINING, idempotency_key=str(uuid4())).operation_id


@pytest.fixture
def stage(postgres: PostgresServer, tmp_path: Path) -> Iterator[Stage]:
    """Provide an empty database that belongs to a role without further rights."""
    with suppress(psycopg.errors.DuplicateObject):
        postgres.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(ROLE)))
    alter = "ALTER ROLE {} LOGIN CONNECTION LIMIT -1 PASSWORD {}"
    postgres.execute(sql.SQL(alter).format(sql.Identifier(ROLE), PASSWORD))
    with postgres.database() as owner:
        statement = "ALTER DATABASE {} OWNER TO {}"
        names = map(sql.Identifier, (owner.db_name, ROLE))
        postgres.execute(sql.SQL(statement).format(*names))
        settings = owner.model_copy(update={"db_user": Secret(ROLE)})
        with open_runtime(settings, tmp_path) as runtime:
            yield Stage(postgres, runtime, tmp_path)


Lie = Callable[[Stage], AbstractContextManager[None]]
BOTH = ("backend", "worker")


def _session(stage: Stage) -> psycopg.Connection[Any]:
    settings = stage.runtime.settings
    return psycopg.connect(
        host=settings.db_host,
        port=settings.db_port,
        dbname=settings.db_name,
        user=ROLE,
        password=PASSWORD,
        autocommit=True,
    )


def _statement(lie: str, undo: str = "", *, ends_sessions: bool = False) -> Lie:
    """Return a lie that is a statement; {role} and {db} are names."""

    @contextmanager
    def tell(stage: Stage) -> Iterator[None]:
        names = {"role": ROLE, "db": stage.database}
        where = "postgres" if ends_sessions else ""
        stage.execute(lie, where, **names)
        if ends_sessions:
            stage.end_sessions()
        yield
        if undo:
            stage.execute(undo, where, **names)
            stage.end_sessions()

    return tell


@contextmanager
def _rename_database(stage: Stage) -> Iterator[None]:
    names = [sql.Identifier(stage.database), sql.Identifier(f"{stage.database}_b")]
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")

    def change(old: sql.Identifier, new: sql.Identifier) -> bool:
        stage.end_sessions()
        with suppress(psycopg.errors.ObjectInUse):
            stage.server.execute(rename.format(old, new))
            return True
        return False

    wait_for("the new name", lambda: change(names[0], names[1]))
    yield
    wait_for("the former name", lambda: change(names[1], names[0]))


@contextmanager
def _exhaust_connections(stage: Stage) -> Iterator[None]:
    with ExitStack() as stack:

        def open_all() -> None:
            with suppress(psycopg.OperationalError):
                while True:
                    stack.enter_context(_session(stage))

        open_all()
        # A service connects again only after a moment.
        for application in ("ktrdr", "training"):
            stage.end_sessions(application)
        open_all()
        yield


def _lock(table: str) -> Lie:
    @contextmanager
    def tell(stage: Stage) -> Iterator[None]:
        with _session(stage) as session, session.transaction():
            session.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield

    return tell


@contextmanager
def _lead_silently(stage: Stage) -> Iterator[None]:
    with _session(stage) as session:
        stage.end_sessions("ktrdr-upkeep")
        session.execute("SELECT pg_advisory_lock(%s)", (LEADER_LOCK,))
        yield


def _mount(source: str, options: str = "") -> Lie:
    @contextmanager
    def tell(stage: Stage) -> Iterator[None]:
        shared = stage.runtime.shared
        other = stage.directory / "other"
        other.mkdir()
        if source == "other mark":
            (other / MARK).write_text(f"{uuid4()}\n")
        with mounted(shared if source == "itself" else other, shared, options=options):
            yield

    return tell


@contextmanager
def _fill_directory(stage: Stage) -> Iterator[None]:
    mark = (stage.runtime.shared / MARK).read_text()
    with small_file_system(stage.runtime.shared, 4) as small:
        (small / MARK).write_text(mark)
        fill(small)
        yield


@contextmanager
def _delete_mark(stage: Stage) -> Iterator[None]:
    mark = stage.runtime.shared / MARK
    text = mark.read_text()
    mark.unlink()
    yield
    mark.write_text(text)


def _stop(name: str) -> Lie:
    @contextmanager
    def tell(stage: Stage) -> Iterator[None]:
        stage.processes[name].signal(signal.SIGSTOP)
        yield
        stage.processes[name].signal(signal.SIGCONT)

    return tell


def _drop(statement: str) -> Lie:
    return _statement(statement)


DATABASE = {
    "the password is another": (
        _statement(
            "ALTER ROLE {role} PASSWORD 'another'",
            f"ALTER ROLE {{role}} PASSWORD {sql.Literal(PASSWORD).as_string()}",
            ends_sessions=True,
        ),
        "password authentication failed for user DB_USER",
        BOTH,
    ),
    "the role may not log in": (
        _statement("ALTER ROLE {role} NOLOGIN", "ALTER ROLE {role} LOGIN", ends_sessions=True),
        "role DB_USER is not permitted to log in",
        BOTH,
    ),
    "the role's connections are used up": (
        _statement(
            "ALTER ROLE {role} CONNECTION LIMIT 0",
            "ALTER ROLE {role} CONNECTION LIMIT -1",
            ends_sessions=True,
        ),
        "too many connections for role DB_USER",
        BOTH,
    ),
    "the role has no rights": (
        _statement(
            "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}",
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
        ),
        "the database",
        BOTH,
    ),
    "the role may not use the schema": (
        _statement(
            "ALTER SCHEMA public OWNER TO CURRENT_USER; REVOKE ALL ON SCHEMA public FROM PUBLIC",
            "ALTER SCHEMA public OWNER TO pg_database_owner; GRANT ALL ON SCHEMA public TO PUBLIC",
        ),
        "the database",
        BOTH,
    ),
    "the database is renamed": (_rename_database, "does not exist", BOTH),
    "the database is read-only": (
        _statement(
            "ALTER DATABASE {db} SET default_transaction_read_only = on",
            "ALTER DATABASE {db} RESET default_transaction_read_only",
            ends_sessions=True,
        ),
        "read-only",
        BOTH,
    ),
    "the server has no connections left": (
        _exhaust_connections,
        "connection slots are reserved",
        BOTH,
    ),
    "the schema is dropped": (_drop("DROP SCHEMA public CASCADE"), "the database lacks", BOTH),
    "a table is dropped": (
        _drop("DROP TABLE operation_checkpoints CASCADE"),
        "the database lacks the tables operation_checkpoints",
        ("backend",),
    ),
    "the queue's table is dropped": (
        _drop("DROP TABLE procrastinate_jobs CASCADE"),
        "the database lacks the tables procrastinate_jobs",
        BOTH,
    ),
    "the queue's function is dropped": (
        _drop(
            "DO $$ DECLARE f regprocedure; BEGIN FOR f IN SELECT oid FROM pg_proc"
            " WHERE proname LIKE 'procrastinate_fetch_job%' LOOP"
            " EXECUTE 'DROP FUNCTION ' || f; END LOOP; END $$"
        ),
        "asking the queue for operations failed (function procrastinate_fetch_job",
        ("worker",),
    ),
    "a migration is missing": (
        _drop("DELETE FROM schema_migrations WHERE name = '0004_shared_directory'"),
        "the database lacks migrations (0004_shared_directory)",
        ("backend",),
    ),
    "the queue is locked": (
        _lock("procrastinate_jobs"),
        "the connections of this service are blocked or lost",
        ("worker",),
    ),
    "the operations are locked": (
        _lock("operations"),
        "the leader's task made no progress",
        ("backend",),
    ),
    "a dead backend leads": (
        _lead_silently,
        "the leader's task failed (another leader has done nothing",
        ("backend",),
    ),
}

OTHERS = {
    "another directory is mounted": (_mount("empty"), "its file .ktrdr-share is missing", BOTH),
    "another installation's directory": (_mount("other mark"), "has another id", BOTH),
    "the directory is read-only": (_mount("itself", "ro"), "(Read-only file system)", BOTH),
    "the directory is full": (_fill_directory, "(No space left on device)", BOTH),
    "the mark is deleted": (_delete_mark, "its file .ktrdr-share is missing", BOTH),
    "the backend is stopped": (_stop("backend"), "does not answer", ("backend",)),
    "the worker is stopped": (_stop("worker"), "does not answer", ("worker",)),
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", [*DATABASE, *OTHERS])
def test_a_service_that_cannot_work_says_so_and_recovers_by_itself(stage: Stage, name: str) -> None:
    lie, sentence, who = {**DATABASE, **OTHERS}[name]
    stage.start(SHARED_RESTART_S="0")
    stage.wait_until_healthy()
    with lie(stage):
        told = time.monotonic()
        for service in who:
            left_s = SEEN_WITHIN_S - (time.monotonic() - told)
            wait_for(
                f"{service}, which says {stage.says(service)!r}, says {sentence!r}",
                partial(stage.has_said, service, sentence),
                max(left_s, 1),
            )
            assert f'"{ROLE}"' not in stage.says(service), "no name of a role is told"
    if "dropped" not in name and "missing" not in name:
        stage.wait_until_healthy()


@pytest.mark.parametrize(
    ("lie", "sentence", "who"),
    [
        ("block", "does not answer", BOTH),
        ("clock", "the clock of this host is 600 s ahead of the database's", BOTH),
        ("hang", "does not respond", BOTH),
        ("feed", "the feed of changes made no progress", ("backend",)),
        ("checks", "the health check of workers failed (no socket)", ("backend",)),
    ],
)
def test_a_process_that_breaks_inside_says_so(
    stage: Stage, lie: str, sentence: str, who: tuple[str, ...]
) -> None:
    stage.start(lie, SHARED_RESTART_S="0")
    stage.wait_until_healthy()
    stage.tell(*who)
    for service in who:
        wait_for(
            f"{service} says {sentence!r}",
            partial(stage.has_said, service, sentence),
            SEEN_WITHIN_S,
        )


def test_a_worker_whose_children_do_not_start_gives_work_back_and_takes_no_more(
    stage: Stage,
) -> None:
    stage.start("children")
    stage.wait_until_healthy()
    stage.tell("worker")
    first = stage.submit()
    sentence = "no child process can be started (No such file or directory)"
    wait_for("the reason", lambda: sentence in stage.says("worker"), SEEN_WITHIN_S)
    second = stage.submit()
    wait_for("the retry", lambda: stage.client().get_operation(first).retry_reason)
    wait_for("the list", lambda: stage.client().list_workers()[0].state == "not ready")
    assert stage.client().get_operation(second).attempt == 0
    assert "not ready" in run_ktrdr(stage.processes["backend"], "workers", "list")
    assert sentence in run_ktrdr(stage.processes["backend"], "workers", "list").replace("\n", " ")


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"PYTHONPATH": "{broken}"}, "no child process can be started (exit code 1: ImportError"),
        ({"WORKER_PUBLIC_BASE_URL": "{closed}"}, "the backend cannot reach this worker at"),
        ({"WORKER_TOKEN": "{expired}"}, "the token has expired"),
        ({"DB_PASSWORD": "wrong"}, "password authentication failed"),
        ({"KTRDR_API_URL": "{other}"}, "is no backend of KTRDR"),
    ],
)
def test_a_worker_that_was_deployed_wrongly_says_so(
    stage: Stage, environment: dict[str, str], sentence: str
) -> None:
    broken = stage.directory / "broken"
    broken.mkdir()
    (broken / "numpy.py").write_text("raise ImportError('numpy is broken')\n")
    inherited = os.environ.get("PYTHONPATH", "")
    with _other_product() as other:
        values = {
            "{broken}": f"{broken}:{inherited}",
            "{closed}": f"http://127.0.0.1:{free_port()}",
            "{expired}": token(Role.WORKER, lifetime=-3600).reveal(),
            "{other}": other,
        }
        stage.start(**{name: values.get(value, value) for name, value in environment.items()})
        wait_for("the reason", lambda: sentence in stage.says("worker"), SEEN_WITHIN_S + 5)


@contextmanager
def _other_product(port: int = 0) -> Iterator[str]:
    """Provide the URL of a server that answers everything with 200."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>It works!</html>")

        do_POST = do_DELETE = do_GET  # noqa: N815  # the names of its base class

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", port), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_worker_whose_url_leads_to_another_worker_says_so(stage: Stage) -> None:
    stage.start()
    stage.wait_until_healthy()
    second = stage.runtime.worker(
        "training",
        stage.processes["backend"],
        WORKER_PUBLIC_BASE_URL=stage.processes["worker"].url,
        WORKER_ID="second",
    )
    stage.processes["second"] = second
    sentence = "the backend cannot reach this worker at"

    def says() -> str:
        return find_problem(httpx.get(f"{second.url}/health", trust_env=False).text)

    wait_for("the reason", lambda: sentence in says(), SEEN_WITHIN_S)


def test_a_worker_whose_token_is_revoked_says_so(stage: Stage) -> None:
    mine = token(Role.WORKER)
    stage.start(WORKER_TOKEN=mine.reveal())
    stage.wait_until_healthy()
    identity = decode_unverified(mine)
    stage.client().revoke_token(str(identity.token_id), identity.expires_at)
    wait_for("the reason", lambda: "was revoked" in stage.says("worker"), SEEN_WITHIN_S)
    wait_for("the list", lambda: stage.client().list_workers()[0].state == "not ready")


def test_a_worker_says_that_the_backend_signs_with_another_secret_or_is_another_product(
    stage: Stage,
) -> None:
    stage.start()
    stage.wait_until_healthy()
    port = int(stage.processes["backend"].url.rpartition(":")[2])
    stage.processes["backend"].stop()
    with _other_product(port):
        wait_for("the reason", lambda: "no backend of KTRDR" in stage.says("worker"), SEEN_WITHIN_S)
    another = "another secret, which is long enough as well"
    stage.processes["backend"] = stage.runtime.start("ktrdr.api.main:app", port, JWT_SECRET=another)
    wait_for("the reason", lambda: "status 401" in stage.says("worker"), 40)


@pytest.mark.timeout(240)
def test_a_backend_under_which_the_database_became_empty_creates_its_schema_and_goes_on(
    stage: Stage,
) -> None:
    stage.start()
    stage.wait_until_healthy()
    revoked = token(Role.OPERATOR)
    identity = decode_unverified(revoked)
    stage.client().revoke_token(str(identity.token_id), identity.expires_at)
    mark = (stage.runtime.shared / MARK).read_text()
    stage.execute(
        "DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION {role}", role=ROLE
    )
    wait_for("the reason", lambda: "the database lacks" in stage.says("worker"), SEEN_WITHIN_S)
    stage.wait_until_healthy()
    assert "the database lacks this release's schema" in stage.processes["backend"].output
    assert (stage.runtime.shared / MARK).read_text() == mark
    with pytest.raises(SecretsError, match="revoked"), _as(stage, revoked) as client:
        client.list_workers()
    wait_for("the registration", lambda: stage.client().list_workers(), 40)
    operation = stage.submit()
    done = OperationStatus.COMPLETED
    wait_for("the end", lambda: stage.client().get_operation(operation).status is done, 60)


@contextmanager
def _as(stage: Stage, secret: Secret) -> Iterator[BackendClient]:
    client = BackendClient(stage.processes["backend"].url, secret)
    try:
        yield client
    finally:
        client.close()


def test_a_drained_worker_is_shown_as_drained(stage: Stage) -> None:
    stage.start()
    stage.wait_until_healthy()
    wait_for("the list", lambda: [w.state for w in stage.client().list_workers()] == ["available"])
    (worker,) = stage.client().list_workers()
    run_ktrdr(stage.processes["backend"], "workers", "drain", worker.worker_id)
    assert stage.client().list_workers()[0].state == "drained"
    (row,) = [
        line
        for line in run_ktrdr(stage.processes["backend"], "workers", "list").splitlines()
        if worker.worker_id in line
    ]
    assert "drained" in row
    assert "available" not in row


def test_conditions_are_metrics(stage: Stage) -> None:
    stage.start(SHARED_RESTART_S="0")
    stage.wait_until_healthy()
    for process in stage.processes.values():
        text = httpx.get(f"{process.url}/metrics", trust_env=False).text
        assert 'ktrdr_condition{condition="share"} 1.0' in text
    with _delete_mark(stage):
        wait_for("the reason", lambda: MARK in stage.says("worker"), SEEN_WITHIN_S)
        text = httpx.get(f"{stage.processes['worker'].url}/metrics", trust_env=False).text
        assert 'ktrdr_condition{condition="share"} 0.0' in text


def test_readiness_needs_the_schema(stage: Stage) -> None:
    stage.start()
    stage.execute("DROP TABLE operation_checkpoints CASCADE")
    backend = stage.processes["backend"]
    wait_for("the answer", lambda: not backend.responds("/api/v1/health/ready"), SEEN_WITHIN_S)
    assert backend.responds("/api/v1/health/live")
    with pytest.raises(KtrdrError, match="lacks the tables operation_checkpoints"):
        raise _problem(httpx.get(f"{backend.url}/api/v1/health/ready", trust_env=False))


def _problem(response: httpx.Response) -> KtrdrError:
    return KtrdrError(response.json()["detail"])
