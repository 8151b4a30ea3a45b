"""Secrets on their last step, from the rendered script into containers: by a real shell."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktrdr.deployment.deploy.plan import Plan, Request, Stamp, make
from ktrdr.deployment.deploy.steps import StepKind
from ktrdr.deployment.homelab import secret_steps as handover
from ktrdr.deployment.homelab.inventory import Inventory, with_defaults
from ktrdr.deployment.hosts.history import RECORDS
from ktrdr.deployment.releases.release import Release, Target, shipped_paths
from ktrdr.deployment.scripts.script import render
from ktrdr.secret import Secret

STAMP = Stamp("20261124-120000-abcd", "ada@laptop", datetime(2026, 11, 24, tzinfo=UTC))
# How many sets of values a run tries; 1,000 take some minutes.
EXAMPLES = int(os.environ.get("KTRDR_EXAMPLES", "5"))
MEMORY = Path("/dev/shm")
TARGETS: tuple[Target, ...] = ("core", "workers")
# What a container without docker would be: programs that note what they are given.
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
METACHARACTERS = "'\"$`\\%#=&;|<>(){}[]*?!~^ \t\r\n"
anything = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
    st.text(st.sampled_from(METACHARACTERS), min_size=1, max_size=60),
    st.integers(1, 4096).map(lambda size: ("é日'\\\n$x" * 600)[:size]),
)
values = st.fixed_dictionaries(
    {
        name: anything.filter(lambda text: len(text.encode()) <= 8192)
        for name in ("DB_PASSWORD", "JWT_SECRET", "GF_ADMIN_PASSWORD", "WORKER_TOKEN")
    }
)


class Ground:
    """A host that is this machine: a work directory, memory, and programs that take notes."""

    def __init__(self, place: Path, memory: Path, release: Release) -> None:
        self.place, self.memory, self.release = place, memory, release
        self.sent_back = b""
        for name, program in {
            "docker": DOCKER,
            "chown": "#!/bin/sh\n",
            "chgrp": "#!/bin/sh\n",
        }.items():
            path = place / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(program)
            path.chmod(0o755)

    def plan(self, target: Any, mode: str, **more: Any) -> Plan:
        """A deploy of a whole stack to it."""
        workdir = str(self.place / "work")
        inventory = Inventory.model_validate(
            with_defaults(
                {
                    "secrets": {"delivery": mode, **more},
                    "core": {"workdir": workdir},
                    "workers": {"B": {"workdir": workdir}},
                }
            )
        )
        node = "B" if target == "workers" else ""
        return make(inventory, Request(target=target, node=node), self.release, STAMP)

    def run(self, plan: Plan, kind: StepKind, given: dict[str, str]) -> str:
        """Runs a step's script as a host would; gives what it printed."""
        step = plan.step(kind)
        assert step
        known = {name: Secret(given.get(name, "x" * 40)) for name in step.script.secrets}
        path = f"{self.place / 'bin'}:{os.environ['PATH']}"
        with self._locked(plan):
            done = subprocess.run(
                ["sh", "-s"],
                input=render(step.script, known).reveal().encode(),
                env={"PATH": path, "RECORD": str(self.place)},
                capture_output=True,
                check=False,
            )
        self.sent_back = done.stdout + done.stderr
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    @contextmanager
    def _locked(self, plan: Plan) -> Iterator[None]:
        """Has the host's lock, as the deploy that the scripts are of."""
        file = Path(plan.site.workdir, RECORDS, "lock")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w") as held:
            held.write(plan.builder.note)
            held.flush()
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    def environment(self) -> dict[bytes, bytes]:
        """What Compose was given."""
        raw = (self.place / "environment").read_bytes()
        return {name: value for name, _, value in (e.partition(b"=") for e in raw.split(b"\0"))}


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory."""
    if not MEMORY.is_dir():
        pytest.skip("this machine has no /dev/shm")
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="ktrdr-test-") as name:
        yield Path(name)


@pytest.fixture
def ground(
    tmp_path: Path, memory: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Ground]:
    """Makes a host on which nothing was deployed yet."""
    monkeypatch.setattr(handover, "SECRETS_ROOT", str(memory / "ktrdr"))
    shipped = [name for target in TARGETS for name in shipped_paths(target) if name[-1] != "/"]
    files = {name: (root / name).read_bytes() for name in shipped}

    def fresh() -> Ground:
        for left in (memory / "ktrdr", tmp_path / "work"):
            shutil.rmtree(left, ignore_errors=True)
        return Ground(tmp_path, memory / "ktrdr", Release("sha-abc1234", "abc1234", files))

    return fresh


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(values=values)
def test_every_set_of_values_reaches_compose_and_memory_byte_for_byte(ground, values):
    host = ground()
    for mode in ("env", "tmpfs"):
        for target, names in (
            ("core", ["DB_PASSWORD", "JWT_SECRET", "GF_ADMIN_PASSWORD"]),
            ("workers", ["DB_PASSWORD", "WORKER_TOKEN"]),
        ):
            host.run(host.plan(target, mode), StepKind.APPLY, values)
            environment = host.environment()
            for name in names:
                assert environment[name.encode()] == values[name].encode()
    for consumer, files in {
        "ktrdr-core/backend": {"db_password": "DB_PASSWORD", "jwt_secret": "JWT_SECRET"},
        "ktrdr-core/grafana": {"admin_password": "GF_ADMIN_PASSWORD"},
        "ktrdr-workers/worker": {"db_password": "DB_PASSWORD", "worker_token": "WORKER_TOKEN"},
    }.items():
        for file, name in files.items():
            path = host.memory / consumer / file
            assert path.read_bytes() == values[name].encode()
            assert path.stat().st_mode & 0o777 == 0o400


def fingerprints(host: Ground, target: str, given: dict[str, str]) -> dict[bytes, bytes]:
    host.run(host.plan(target, "tmpfs"), StepKind.APPLY, given)
    found = host.environment()
    return {name: found[name] for name in found if name.endswith(b"_SECRETS")}


def test_a_fingerprint_changes_with_the_secrets_of_its_consumer_and_with_no_other(ground):
    host = ground()
    before = {"DB_PASSWORD": "a" * 20, "JWT_SECRET": "j" * 40, "GF_ADMIN_PASSWORD": "g" * 20}
    first = fingerprints(host, "core", before)
    assert fingerprints(host, "core", before) == first
    grafana = fingerprints(host, "core", {**before, "GF_ADMIN_PASSWORD": "other" * 4})
    assert {name for name in first if first[name] != grafana[name]} == {b"GRAFANA_SECRETS"}
    backend = fingerprints(host, "core", {**before, "JWT_SECRET": "k" * 40})
    assert {name for name in first if first[name] != backend[name]} == {b"BACKEND_SECRETS"}


def test_what_is_not_in_memory_any_more_has_a_fingerprint_that_no_container_has(ground):
    host = ground()
    given = {"DB_PASSWORD": "a" * 20, "WORKER_TOKEN": "t" * 40}
    first = fingerprints(host, "workers", given)
    shutil.rmtree(host.memory)
    host.run(host.plan("workers", "tmpfs"), StepKind.FETCH, given)
    assert host.environment()[b"WORKER_SECRETS"] == b"missing"
    assert fingerprints(host, "workers", given) != first, "a new key"


def test_looking_writes_nothing_into_memory(ground):
    host = ground()
    host.run(host.plan("core", "tmpfs"), StepKind.FETCH, {})
    assert not host.memory.exists()


def test_delivery_by_environment_removes_the_files_of_the_other_one(ground):
    host = ground()
    host.run(host.plan("core", "tmpfs"), StepKind.APPLY, {})
    assert (host.memory / "ktrdr-core/backend/jwt_secret").exists()
    host.run(host.plan("core", "env"), StepKind.APPLY, {})
    assert not (host.memory / "ktrdr-core").exists()


def test_secrets_are_not_written_to_what_is_no_memory(ground, tmp_path, monkeypatch):
    host = ground()
    monkeypatch.setattr(handover, "SECRETS_ROOT", str(tmp_path / "disk"))
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    if "tmpfs" in kind:
        pytest.skip("this machine's temporary directory is in memory")
    with pytest.raises(AssertionError, match="is not in memory"):
        host.run(host.plan("core", "tmpfs"), StepKind.APPLY, {})
    assert [path for path in (tmp_path / "disk").rglob("*") if path.is_file()] == []


def running_backend(host: Ground, **environment: str) -> None:
    """Has `docker container inspect` show a backend with these variables."""
    entries = "\n".join(f"printf '%s' \"$mark\"; cat {host.place / name}" for name in environment)
    for name, value in environment.items():
        (host.place / name).write_bytes(f"{name}={value}".encode())
    (host.place / "inspect").write_text(
        'mark=${4#"{{range .Config.Env}}"}\nmark=${mark%%"{{.}}"*}\n'
        f'case "$5" in *-backend-1) ;; *) exit 1 ;; esac\n{entries}\nprintf "%s\\n" "$mark"\n'
    )


def carried(host: Ground, **more: Any) -> tuple[str, str]:
    """What a deploy makes of the former secret, and until when it is good."""
    given = {"JWT_SECRET": "new " * 10}
    host.run(host.plan("core", "env", **more), StepKind.FETCH, given)
    environment = host.environment()
    return (
        environment[b"JWT_SECRET_PREVIOUS"].decode(),
        environment[b"JWT_SECRET_PREVIOUS_UNTIL"].decode(),
    )


def test_the_secret_that_the_backend_signs_with_becomes_the_previous_one(ground):
    host = ground()
    former = 'it\'s\n"old" $é \n'
    running_backend(host, JWT_SECRET=former, IMAGE_TAG="sha-0000000")
    previous, until = carried(host)
    assert previous == former
    assert until.startswith("20")
    assert until.endswith("Z")


def test_an_overlap_that_lasts_stays_what_it_is_and_one_that_is_over_goes_with_the_next_release(
    ground,
):
    host = ground()
    same = "new " * 10
    tag = host.release.tag
    lasting = {"JWT_SECRET_PREVIOUS": "old", "JWT_SECRET_PREVIOUS_UNTIL": "2999-01-01T00:00:00Z"}
    over = {**lasting, "JWT_SECRET_PREVIOUS_UNTIL": "2020-01-01T00:00:00Z"}
    running_backend(host, JWT_SECRET=same, IMAGE_TAG="another", **lasting)
    assert carried(host) == ("old", "2999-01-01T00:00:00Z")
    running_backend(host, JWT_SECRET=same, IMAGE_TAG=tag, **over)
    assert carried(host) == ("old", "2020-01-01T00:00:00Z"), "nothing restarts for this alone"
    running_backend(host, JWT_SECRET=same, IMAGE_TAG="another", **over)
    assert carried(host) == ("", "")


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
def test_a_host_never_sends_back_the_former_secret(ground, running, kind, mode, fails):
    """It is known there alone, so nobody could take it out of what is shown."""
    host = ground()
    running_backend(host, IMAGE_TAG="x", **running)
    if fails:
        program = DOCKER.replace('/environment"', '/environment"; exit 3')
        (host.place / "bin/docker").write_text(program)
    with pytest.raises(AssertionError) if fails else nullcontext():
        host.run(host.plan("core", mode), kind, {"JWT_SECRET": "new " * 10})
    assert host.environment()[b"JWT_SECRET_PREVIOUS"] == b"former " * 6, "Compose has it"
    assert b"former" not in host.sent_back


def test_no_overlap_means_none_and_ends_one_that_lasts(ground):
    host = ground()
    lasting = {"JWT_SECRET_PREVIOUS": "old", "JWT_SECRET_PREVIOUS_UNTIL": "2999-01-01T00:00:00Z"}
    running_backend(host, JWT_SECRET="former", IMAGE_TAG="x", **lasting)
    assert carried(host, overlap_hours=0) == ("", "")


def test_the_database_is_given_a_verifier_and_never_the_password(ground):
    host = ground()
    host.run(host.plan("core", "env"), StepKind.APPLY, {"DB_PASSWORD_VERIFIER": "SCRAM-SHA-256$v"})
    said = (host.place / "stdin").read_text()
    assert "\\set verifier 'SCRAM-SHA-256$v'\n" in said
    assert "ALTER ROLE CURRENT_USER PASSWORD :'verifier';" in said
    assert "x" * 40 not in said.partition("\\endif")[0]


def test_an_apply_that_does_not_come_to_its_end_is_gone_through_again(ground):
    host = ground()
    plan = host.plan("core", "env")
    assert "== unfinished\nunfinished\n" not in host.run(plan, StepKind.FETCH, {})
    (host.place / "bin/docker").write_text(DOCKER.replace('"compose "*)', '"compose "*) exit 3;'))
    with pytest.raises(AssertionError):
        host.run(plan, StepKind.APPLY, {})
    (host.place / "bin/docker").write_text(DOCKER)
    assert "== unfinished\nunfinished\n" in host.run(plan, StepKind.FETCH, {})
    host.run(plan, StepKind.APPLY, {})
    assert "== unfinished\nunfinished\n" not in host.run(plan, StepKind.FETCH, {})


def test_the_operator_is_told_what_the_workers_still_have(ground):
    site = replace(ground().plan("core", "env").site, nodes=("B", "C"))
    rotated = {"rotated": ["db_password", "jwt_secret"]}
    told = list(handover.describe_rotation(site, rotated))
    assert told[0] == (
        "the workers still have the former db_password and jwt_secret: "
        "run `ktrdr deploy workers all`"
    )
    assert "are good for 24 h more" in told[1]
    (one,) = handover.describe_rotation(site, {"rotated": ["db_password"]}, following=("B",))
    assert one == (
        "the workers of C still have the former db_password: run `ktrdr deploy workers C`"
    )
    assert (
        list(handover.describe_rotation(site, {"rotated": ["db_password"]}, following=("B", "C")))
        == []
    )
    assert list(handover.describe_rotation(site, {})) == []
