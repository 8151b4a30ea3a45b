"""Tests of rotation: changed secrets take effect, unaffected services keep running."""

from __future__ import annotations

import base64
import json
import secrets
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import nodes, registries
from tests.e2e.conftest import ODD, Lab, Ran, node
from tests.e2e.leaks import leaks_in

# Logs in to the database over the network, like a worker.
OPENS = """
import json, os, sys, psycopg
try:
    psycopg.connect(host="db", dbname="ktrdr", user=os.environ["DB_USER"],
                    password=sys.stdin.read()).close()
    print(json.dumps(True))
except psycopg.OperationalError:
    print(json.dumps(False))
"""


HEALTH = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:8000/api/v1/health").read().decode())
"""


class Turn:
    """Sequence of vaults for one stack."""

    def __init__(self, lab: Lab, place: Path) -> None:
        self.lab, self.place = lab, place
        self.fields = dict(lab.fields)
        self.env: dict[str, str] = {}

    def to(self, **changes: str) -> None:
        """Change fields in the vault."""
        self.fields |= changes
        self.env = self.lab.write_vault(self.place / "vault.json", self.fields)

    def deploy(self, *what: str) -> Ran:
        """Deploy with this vault."""
        return self.lab.good("deploy", *what, "--yes", env=self.env)

    def everything(self) -> None:
        """Deploy all hosts."""
        for what in (("core", "all"), ("workers", "B"), ("workers", "C")):
            self.deploy(*what)


@pytest.fixture
def turn(lab: Lab, tmp_path: Path) -> Iterator[Turn]:
    """Provide a vault to change, and deploy with the tests' own vault afterwards."""
    turning = Turn(lab, tmp_path)
    yield turning
    registries.set_token(lab.fields["ghcr_token"])
    turning.env = {}
    turning.everything()
    lab.good("token", "create", "--role", "operator", "--save")


def password(kind: str) -> str:
    return f"{kind}-{secrets.token_hex(6)}{ODD}-end"


def opens(lab: Lab, password: str) -> bool:
    command = [*nodes.attach_command(node("core")), "docker", "exec", "-i"]
    done = subprocess.run(
        [*command, "ktrdr-core-backend-1", "python3", "-c", OPENS],
        input=password.encode(),
        capture_output=True,
        check=True,
    )
    return bool(json.loads(done.stdout))


def psql(lab: Lab, statement: str) -> str:
    shell = 'exec psql -qAtX -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "$1"'
    return lab.on("core", "docker", "exec", "ktrdr-core-db-1", "sh", "-c", shell, "-", statement)


def grafana_says(lab: Lab, password: str) -> int:
    login = base64.b64encode(f"admin:{password}".encode()).decode()
    asked = urllib.request.Request(
        f"{lab.env['KTRDR_LAB_GRAFANA_URL']}/api/org", headers={"Authorization": f"Basic {login}"}
    )
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def started(lab: Lab, key: str) -> dict[str, tuple[str, str]]:
    return {
        name: (each["Id"], each["State"]["StartedAt"]) for name, each in lab.inspect(key).items()
    }


@contextmanager
def everything_logged(lab: Lab) -> Iterator[list[str]]:
    """Enable all logging of the database server, and collect its running statements."""
    seen: list[str] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            try:
                seen.append(psql(lab, "SELECT query FROM pg_stat_activity"))
            except Exception as error:
                seen.append(f"not to be asked: {type(error).__name__}")

    for setting in ("log_statement = 'all'", "log_min_duration_statement = 0"):
        psql(lab, f"ALTER SYSTEM SET {setting}")
    psql(lab, "SELECT pg_reload_conf()")
    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        done.set()
        looking.join()
        psql(lab, "ALTER SYSTEM RESET ALL")
        psql(lab, "SELECT pg_reload_conf()")


def test_a_changed_database_password_is_set_without_restarting_the_database(
    turn: Turn,
) -> None:
    lab, before = turn.lab, started(turn.lab, "core")
    turn.to(db_password=password("db"))
    with everything_logged(lab) as seen:
        ran = turn.deploy("core", "all")
    after = started(lab, "core")
    assert {name for name in before if before[name] != after[name]} == {"backend"}
    assert opens(lab, turn.fields["db_password"])
    assert not opens(lab, lab.fields["db_password"])
    assert "the workers still use the former db_password: run `ktrdr deploy workers all`" in ran.err
    log = lab.on("core", "sh", "-c", "docker logs ktrdr-core-db-1 2>&1")
    assert "pg_stat_activity" in log, "the log does hold statements"
    assert len(seen) > 5
    for place in (log, *seen, ran.text):
        assert leaks_in(place, {**turn.fields, "db_username": "\0"}) == []
    assert "ALTER ROLE" not in log
    for key in "BC":
        turn.deploy("workers", key)
    assert {each["status"] for each in lab.good("workers", "list", "--json").json} == {"available"}


def test_a_changed_grafana_password_is_set_for_the_administrator(turn: Turn) -> None:
    lab, before = turn.lab, started(turn.lab, "core")
    turn.to(grafana_password=password("gf"))
    turn.deploy("core", "all")
    after = started(lab, "core")
    assert {name for name in before if before[name] != after[name]} == {"grafana"}
    assert grafana_says(lab, turn.fields["grafana_password"]) == 200
    assert grafana_says(lab, lab.fields["grafana_password"]) == 401
    log = lab.on("core", "sh", "-c", "docker logs ktrdr-core-grafana-1 2>&1")
    assert leaks_in(log, {"grafana_password": turn.fields["grafana_password"]}) == []


def test_former_tokens_stay_valid_and_new_ones_are_signed_with_the_new_secret(turn: Turn) -> None:
    lab, before = turn.lab, started(turn.lab, "core")
    turn.to(jwt_secret=f"jwt-{secrets.token_hex(16)}{ODD}-end")
    ran = turn.deploy("core", "all")
    after = started(lab, "core")
    assert {name for name in before if before[name] != after[name]} == {"backend"}
    assert "tokens signed with the former jwt_secret stay valid for another 24 h" in ran.err
    assert "db_password" not in ran.err, "the password is the same"
    listed = lab.good("workers", "list", "--json").json
    assert {each["status"] for each in listed} == {"available"}, "they too have old tokens"
    new = lab.good("token", "create", "--role", "reader", env=turn.env).out.strip()
    assert lab.good("workers", "list", "--json", env={"KTRDR_TOKEN": new}).json
    again = turn.deploy("core", "all")
    assert "Nothing was changed" in again.out, "the overlap is no change"
    for key in "BC":
        assert "recreated" in turn.deploy("workers", key).out
    ended = turn.deploy("core", "backend", "--set", "secrets.overlap_hours=0")
    assert "recreated" in ended.out
    assert lab.ktrdr("workers", "list").code == 4, "a token of before is no longer good"
    assert lab.good("workers", "list", env={"KTRDR_TOKEN": new}).out


def test_the_next_pull_logs_in_with_a_changed_registry_token(turn: Turn, moving_tag: str) -> None:
    turn.to(ghcr_token=f"ghp-{secrets.token_hex(6)}-end")
    registries.set_token(turn.fields["ghcr_token"])
    refused = turn.lab.ktrdr("deploy", "core", "backend", "--tag", moving_tag)
    assert refused.code == 7
    assert "the registry rejects the login" in refused.err
    turn.deploy("core", "backend", "--tag", moving_tag)


def test_a_changed_user_name_is_refused_before_anything_changes(turn: Turn) -> None:
    lab, before = turn.lab, started(turn.lab, "core")
    turn.to(db_username="somebody else")
    ran = lab.ktrdr("deploy", "core", "all", env=turn.env)
    assert ran.code == 4
    assert "db_username was changed in the vault, but the database on" in ran.err
    assert started(lab, "core") == before
    assert ".ktrdr-staging" not in lab.on("core", "ls", "-a", "/opt/ktrdr-core")


def kept(lab: Lab) -> str:
    return psql(lab, "SELECT rolpassword FROM pg_authid WHERE rolname = CURRENT_USER")


def kill_after_the_role_changed(turn: Turn) -> None:
    """Kill a deploy after the role's change, and wait until the host has finished it."""
    lab, verifier = turn.lab, kept(turn.lab)
    with lab.start("deploy", "core", "all", "--yes", **turn.env) as process:
        while kept(lab) == verifier:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    deadline = time.monotonic() + 120
    while not (is_free(lab) and (there := lab.inspect("core").get("backend"))):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert there["State"]["Running"]


def is_free(lab: Lab) -> bool:
    """Return True if no process of a deploy runs on the core."""
    busy = "docker compose|ktrdr/lock|deploy/program"
    return lab.on("core", "pgrep", "-fc", busy, check=False).strip() == "0"


def test_the_host_finishes_a_rotation_that_was_killed_after_the_roles_change(turn: Turn) -> None:
    turn.to(db_password=password("db"), grafana_password=password("gf"))
    kill_after_the_role_changed(turn)
    assert opens(turn.lab, turn.fields["db_password"])
    health = turn.lab.inside("core", "backend", HEALTH)
    assert health["database"] == "ok", "nobody has deployed since"
    turn.deploy("core", "all")
    assert grafana_says(turn.lab, turn.fields["grafana_password"]) == 200


def test_a_vault_that_is_reverted_after_such_a_kill_is_followed(turn: Turn) -> None:
    former = turn.fields["db_password"]
    turn.to(db_password=password("db"))
    kill_after_the_role_changed(turn)
    turn.to(db_password=former)
    turn.deploy("core", "all")
    assert opens(turn.lab, former)
