"""Delivery and rotation of secrets, with the real scripts in a real shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import Plan, StepKind, make_plan
from ktrdr.deployment.homelab import hosts
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.homelab.inventory import Inventory, add_defaults
from ktrdr.deployment.hosts.history import RECORDS
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.releases.release import Release, Target, shipped_paths
from ktrdr.deployment.scripts import sections
from ktrdr.deployment.scripts.script import quote, render
from ktrdr.secret import Secret
from tests.unit.deployment.shell import SHELLS, write_script

DEPLOY_ID = DeployId("20261124-120000-abcd", "ada@laptop", datetime(2026, 11, 24, tzinfo=UTC))
# Number of sets of values that a run tries; 1,000 take some minutes.
EXAMPLES = int(os.environ.get("KTRDR_EXAMPLES", "5"))
MEMORY = Path("/dev/shm")
ROOT = Path(__file__).resolve().parents[2]
TARGETS: tuple[Target, ...] = ("core", "workers")
# Stand-in for Docker, whose subcommands record their environment or their input.
DOCKER = """#!/bin/sh
case "$1 $2" in
"compose "*) env -0 >"$RECORD/environment" ;;
"container inspect") [ -e "$RECORD/inspect" ] && . "$RECORD/inspect" ;;
"ps "*) echo an-id ;;
"exec "*) cat >>"$RECORD/stdin" ;;
"run --rm")
while [ "$1" != -c ]; do shift; done
shift
exec sh -c "$@" ;;
esac
"""
# A further field of the inventory.
FURTHER = {"a_key": {"variable": "A_KEY", "stacks": ["core", "workers"]}}
METACHARACTERS = "'\"$`\\%#=&;|<>(){}[]*?!~^ \t\r\n"
anything = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
    st.text(st.sampled_from(METACHARACTERS), min_size=1, max_size=60),
    st.integers(1, 4096).map(lambda size: ("é日'\\\n$x" * 600)[:size]),
)
values = st.fixed_dictionaries(
    {
        name: anything.filter(lambda text: len(text.encode()) <= 8192)
        for name in ("DB_PASSWORD", "JWT_SECRET", "GF_ADMIN_PASSWORD", "WORKER_TOKEN", "A_KEY")
    }
)


class LocalHost:
    """This machine as a host.

    Attributes:
        directory: Directory with its work directory, its programs, and what these record.
        memory: Directory in memory for delivered secrets.
        release: Release that is deployed.
        output: Whole output of the last script.
    """

    def __init__(self, directory: Path, memory: Path, release: Release) -> None:
        self.directory, self.memory, self.release = directory, memory, release
        self.output = b""
        for name, program in {
            "docker": DOCKER,
            "chown": "#!/bin/sh\n",
            "chgrp": "#!/bin/sh\n",
        }.items():
            path = directory / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(program)
            path.chmod(0o755)

    def plan(self, target: str, mode: str, **secrets: Any) -> Plan:
        """Plan the deploy of a whole stack, with settings of the inventory's secrets."""
        workdir = str(self.directory / "work")
        inventory = Inventory.model_validate(
            add_defaults(
                {
                    "secrets": {"delivery": mode, **secrets},
                    "core": {"workdir": workdir},
                    "workers": {"B": {"workdir": workdir}},
                }
            )
        )
        host, *_ = hosts.select_hosts(inventory, [target])
        return make_plan(Homelab(inventory), host, self.release, DEPLOY_ID, DeployOptions())

    def run(self, plan: Plan, kind: StepKind, secrets: dict[str, str]) -> str:
        """Run the script of a step as a host does; return its standard output."""
        step = plan.step(kind)
        assert step
        exported = {name: Secret(secrets.get(name, "x" * 40)) for name in step.script.secrets}
        # The shell is that of a session with the lock, which ends the deploy after it was applied.
        lock = Path(plan.host.workdir, RECORDS, "lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        texts = [render(step.script, exported).reveal()]
        if kind is StepKind.APPLY:
            end = plan.record(plan.entry.ended_event(), good=False)
            texts.append(render(end.script, {}).reveal())
        lines = [f"exec 9>{quote(str(lock))}", "flock 9"]
        lines.append(f"printf '%s %s\\n' $$ {quote(plan.lock_owner.to_json())} >&9")
        lines += [f"(\n{text})\ncode=${{code-$?}}" for text in texts]
        process = subprocess.run(
            ["sh", "-s"],
            input="\n".join([*lines, "exit $code"]).encode(),
            env={
                "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
                "RECORD": str(self.directory),
                "KTRDR_ETC": str(self.directory),
            },
            capture_output=True,
            check=False,
        )
        self.output = process.stdout + process.stderr
        assert process.returncode == 0, process.stderr.decode()
        return process.stdout.decode()

    def compose_environment(self) -> dict[bytes, bytes]:
        """Return the environment of the last call of Compose."""
        raw = (self.directory / "environment").read_bytes()
        return {name: value for name, _, value in (e.partition(b"=") for e in raw.split(b"\0"))}


@pytest.fixture
def memory() -> Iterator[Path]:
    """Return a directory in memory."""
    if not MEMORY.is_dir():
        pytest.skip("this machine has no /dev/shm")
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="ktrdr-test-") as name:
        yield Path(name)


@pytest.fixture
def new_host(
    tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], LocalHost]:
    """Return a function that creates a host to which nothing was deployed yet."""
    monkeypatch.setattr(hosts, "SECRETS_ROOT", str(memory / "ktrdr"))
    shipped = [name for target in TARGETS for name in shipped_paths(target) if name[-1] != "/"]
    files = {name: (ROOT / name).read_bytes() for name in shipped}

    def create() -> LocalHost:
        for leftover in (memory / "ktrdr", tmp_path / "work"):
            shutil.rmtree(leftover, ignore_errors=True)
        return LocalHost(tmp_path, memory / "ktrdr", Release("sha-abc1234", "abc1234", files))

    return create


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(values=values)
def test_every_set_of_values_reaches_compose_and_memory_byte_for_byte(new_host, values):
    host = new_host()
    for mode in ("env", "tmpfs"):
        for target, names in (
            ("core", ["DB_PASSWORD", "JWT_SECRET", "GF_ADMIN_PASSWORD", "A_KEY"]),
            ("workers", ["DB_PASSWORD", "WORKER_TOKEN", "A_KEY"]),
        ):
            host.run(host.plan(target, mode, fields=FURTHER), StepKind.APPLY, values)
            environment = host.compose_environment()
            for name in names:
                assert environment[name.encode()] == values[name].encode()
    for consumer, files in {
        "ktrdr-core/backend": {
            "db_password": "DB_PASSWORD",
            "jwt_secret": "JWT_SECRET",
            "a_key": "A_KEY",
        },
        "ktrdr-core/grafana": {"admin_password": "GF_ADMIN_PASSWORD"},
        "ktrdr-workers/worker": {
            "db_password": "DB_PASSWORD",
            "worker_token": "WORKER_TOKEN",
            "a_key": "A_KEY",
        },
    }.items():
        for file, name in files.items():
            path = host.memory / consumer / file
            assert path.read_bytes() == values[name].encode()
            assert path.stat().st_mode & 0o777 == 0o400


def fingerprints(
    host: LocalHost, target: str, secrets: dict[str, str], **settings: Any
) -> dict[bytes, bytes]:
    """Apply a deploy; return the fingerprints that Compose received."""
    host.run(host.plan(target, "tmpfs", **settings), StepKind.APPLY, secrets)
    environment = host.compose_environment().items()
    return {name: value for name, value in environment if name.endswith(b"_SECRETS")}


def test_a_fingerprint_depends_only_on_the_secrets_of_its_service(new_host):
    host = new_host()
    before = {"DB_PASSWORD": "a" * 20, "JWT_SECRET": "j" * 40, "GF_ADMIN_PASSWORD": "g" * 20}
    first = fingerprints(host, "core", before)
    assert fingerprints(host, "core", before) == first
    grafana = fingerprints(host, "core", {**before, "GF_ADMIN_PASSWORD": "other" * 4})
    assert {name for name in first if first[name] != grafana[name]} == {b"GRAFANA_SECRETS"}
    backend = fingerprints(host, "core", {**before, "JWT_SECRET": "k" * 40})
    assert {name for name in first if first[name] != backend[name]} == {b"BACKEND_SECRETS"}


def test_a_further_field_changes_only_the_fingerprint_of_our_own_services(new_host):
    host = new_host()
    secrets = {"DB_PASSWORD": "a" * 20, "JWT_SECRET": "j" * 40, "A_KEY": "one"}
    without = fingerprints(host, "core", secrets)
    first = fingerprints(host, "core", secrets, fields=FURTHER)
    other = fingerprints(host, "core", {**secrets, "A_KEY": "another"}, fields=FURTHER)
    for before, after in ((without, first), (first, other)):
        assert {name for name in before if before[name] != after[name]} == {b"BACKEND_SECRETS"}
    assert fingerprints(host, "core", secrets, fields=FURTHER) == first


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_every_shell_passes_further_secrets_on_byte_for_byte(tmp_path, shell):
    values = {"A_KEY": 'it\'s "$x" `id` \\ *\n\n', "Z_1": " é\t"}
    body = "    further_secrets=' A_KEY Z_1'\n    with_further_files printf '%s|' one 'two words'"
    script = write_script(tmp_path, body, "fingerprints", secrets=tuple(values))
    printed = subprocess.run(
        [*shell, "-s"],
        input=render(script, {name: Secret(text) for name, text in values.items()}).reveal(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    expected = "|".join(["one", "two words", "a_key", values["A_KEY"], "z_1", values["Z_1"], ""])
    assert printed.startswith(expected)


def test_a_further_field_that_is_not_in_memory_yet_has_a_fingerprint_of_no_container(new_host):
    host = new_host()
    secrets = {"DB_PASSWORD": "a" * 20, "WORKER_TOKEN": "t" * 40}
    fingerprints(host, "workers", secrets)
    host.run(host.plan("workers", "tmpfs", fields=FURTHER), StepKind.FETCH, secrets)
    assert host.compose_environment()[b"WORKER_SECRETS"] == b"missing"


def test_secrets_that_are_missing_in_memory_have_a_fingerprint_of_no_container(new_host):
    host = new_host()
    secrets = {"DB_PASSWORD": "a" * 20, "WORKER_TOKEN": "t" * 40}
    first = fingerprints(host, "workers", secrets)
    shutil.rmtree(host.memory)
    host.run(host.plan("workers", "tmpfs"), StepKind.FETCH, secrets)
    assert host.compose_environment()[b"WORKER_SECRETS"] == b"missing"
    assert fingerprints(host, "workers", secrets) != first, "a new key"


def test_a_fetch_writes_nothing_into_memory(new_host):
    host = new_host()
    host.run(host.plan("core", "tmpfs"), StepKind.FETCH, {})
    assert not host.memory.exists()


def test_delivery_by_environment_removes_the_files_in_memory(new_host):
    host = new_host()
    host.run(host.plan("core", "tmpfs"), StepKind.APPLY, {})
    assert (host.memory / "ktrdr-core/backend/jwt_secret").exists()
    host.run(host.plan("core", "env"), StepKind.APPLY, {})
    assert not (host.memory / "ktrdr-core").exists()


def test_secrets_are_not_written_to_a_disk(new_host, tmp_path, monkeypatch):
    host = new_host()
    monkeypatch.setattr(hosts, "SECRETS_ROOT", str(tmp_path / "disk"))
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    if "tmpfs" in kind:
        pytest.skip("this machine's temporary directory is in memory")
    with pytest.raises(AssertionError, match="is not in memory"):
        host.run(host.plan("core", "tmpfs"), StepKind.APPLY, {})
    assert [path for path in (tmp_path / "disk").rglob("*") if path.is_file()] == []


def running_backend(host: LocalHost, **environment: str) -> None:
    """Let `docker container inspect` show a backend with these variables."""
    entries = "\n".join(
        f"printf '%s' \"$mark\"; cat {host.directory / name}" for name in environment
    )
    for name, value in environment.items():
        (host.directory / name).write_bytes(f"{name}={value}".encode())
    (host.directory / "inspect").write_text(
        'mark=${4#"{{range .Config.Env}}"}\nmark=${mark%%"{{.}}"*}\n'
        f'case "$5" in *-backend-1) ;; *) exit 1 ;; esac\n{entries}\nprintf "%s\\n" "$mark"\n'
    )


def previous_secret(host: LocalHost, **settings: Any) -> tuple[str, str]:
    """Return the previous signing key that a deploy passes on, and the end of its validity."""
    host.run(host.plan("core", "env", **settings), StepKind.FETCH, {"JWT_SECRET": "new " * 10})
    environment = host.compose_environment()
    return (
        environment[b"JWT_SECRET_PREVIOUS"].decode(),
        environment[b"JWT_SECRET_PREVIOUS_UNTIL"].decode(),
    )


def test_the_current_signing_key_becomes_the_previous_one(new_host):
    host = new_host()
    former = 'it\'s\n"old" $é \n'
    running_backend(host, JWT_SECRET=former, IMAGE_TAG="sha-0000000")
    previous, until = previous_secret(host)
    assert previous == former
    assert until.startswith("20")
    assert until.endswith("Z")


def test_an_overlap_continues_until_its_end_and_is_removed_by_the_next_release(
    new_host,
):
    host = new_host()
    same = "new " * 10
    tag = host.release.tag
    current = {"JWT_SECRET_PREVIOUS": "old", "JWT_SECRET_PREVIOUS_UNTIL": "2999-01-01T00:00:00Z"}
    ended = {**current, "JWT_SECRET_PREVIOUS_UNTIL": "2020-01-01T00:00:00Z"}
    running_backend(host, JWT_SECRET=same, IMAGE_TAG="another", **current)
    assert previous_secret(host) == ("old", "2999-01-01T00:00:00Z")
    running_backend(host, JWT_SECRET=same, IMAGE_TAG=tag, **ended)
    assert previous_secret(host) == ("old", "2020-01-01T00:00:00Z"), (
        "nothing restarts for this alone"
    )
    running_backend(host, JWT_SECRET=same, IMAGE_TAG="another", **ended)
    assert previous_secret(host) == ("", "")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("mode", ["env", "tmpfs"])
@pytest.mark.parametrize("kind", [StepKind.FETCH, StepKind.APPLY])
@pytest.mark.parametrize(
    "running",
    [
        {"JWT_SECRET": "former " * 6},
        {
            "JWT_SECRET": "new " * 10,
            "JWT_SECRET_PREVIOUS": "former " * 6,
            "JWT_SECRET_PREVIOUS_UNTIL": "2999-01-01T00:00:00Z",
        },
    ],
)
def test_the_output_of_a_host_never_contains_the_former_secret(
    new_host, running, kind, mode, fails
):
    """Only the host knows it, so the operator's machine cannot scrub it."""
    host = new_host()
    running_backend(host, IMAGE_TAG="x", **running)
    if fails:
        program = DOCKER.replace('/environment"', '/environment"; exit 3')
        (host.directory / "bin/docker").write_text(program)
    with pytest.raises(AssertionError) if fails else nullcontext():
        host.run(host.plan("core", mode), kind, {"JWT_SECRET": "new " * 10})
    assert host.compose_environment()[b"JWT_SECRET_PREVIOUS"] == b"former " * 6, (
        "Compose receives it"
    )
    assert b"former" not in host.output


def test_an_overlap_of_zero_ends_a_current_one(new_host):
    host = new_host()
    current = {"JWT_SECRET_PREVIOUS": "old", "JWT_SECRET_PREVIOUS_UNTIL": "2999-01-01T00:00:00Z"}
    running_backend(host, JWT_SECRET="former", IMAGE_TAG="x", **current)
    assert previous_secret(host, overlap_hours=0) == ("", "")


def test_the_database_receives_a_verifier_and_never_the_password(new_host):
    host = new_host()
    host.run(host.plan("core", "env"), StepKind.APPLY, {"DB_PASSWORD_VERIFIER": "SCRAM-SHA-256$v"})
    commands = (host.directory / "stdin").read_text()
    assert "\\set verifier 'SCRAM-SHA-256$v'\n" in commands
    assert "ALTER ROLE CURRENT_USER PASSWORD :'verifier';" in commands
    assert "x" * 40 not in commands.partition("\\endif")[0]


@pytest.mark.parametrize(
    ("password", "rotated"),
    [("same " * 5, ["jwt_secret"]), ("new " * 5, ["db_password", "jwt_secret"])],
)
@pytest.mark.parametrize("mode", ["env", "tmpfs"])
def test_another_signing_key_alone_is_no_rotation_of_the_password(
    new_host, mode, password, rotated
):
    """The verifier in the database changes in both cases, because the key makes its salt."""
    host = new_host()
    plan = host.plan("core", mode)
    before = {"JWT_SECRET": "former " * 6, "DB_PASSWORD": "same " * 5}
    host.run(plan, StepKind.APPLY, before)
    inside = {"JWT_SECRET_FILE": "/x/jwt_secret", "DB_PASSWORD_FILE": "/x/db_password"}
    running_backend(host, IMAGE_TAG="x", **(before if mode == "env" else inside))
    docker = DOCKER.replace('>>"$RECORD/stdin"', '>>"$RECORD/stdin"; echo changed')
    (host.directory / "bin/docker").write_text(docker)
    output = host.run(plan, StepKind.APPLY, {"JWT_SECRET": "new " * 10, "DB_PASSWORD": password})
    found = sections.split(output)["rotated"]
    assert [name for name in found if name in ("db_password", "jwt_secret")] == rotated


def test_an_unfinished_apply_is_repeated_by_the_next_deploy(new_host):
    host = new_host()
    plan = host.plan("core", "env")
    assert "== unfinished\nunfinished\n" not in host.run(plan, StepKind.FETCH, {})
    docker = host.directory / "bin/docker"
    docker.write_text(DOCKER.replace('"compose "*)', '"compose "*) exit 3;'))
    with pytest.raises(AssertionError):
        host.run(plan, StepKind.APPLY, {})
    docker.write_text(DOCKER)
    assert "== unfinished\nunfinished\n" in host.run(plan, StepKind.FETCH, {})
    host.run(plan, StepKind.APPLY, {})
    assert "== unfinished\nunfinished\n" not in host.run(plan, StepKind.FETCH, {})
