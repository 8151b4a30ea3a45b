"""Supervisor of a deploy on its host, by real shells with a stand-in for Docker."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import Plan, StepKind, make_plan
from ktrdr.deployment.homelab import hosts
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.homelab.inventory import Inventory, add_defaults
from ktrdr.deployment.hosts.history import RECORDS, DeployKind, DeployOutcome, parse_history
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.hosts.lock import RELEASE_SCRIPT, acquire_script
from ktrdr.deployment.releases.release import Release, Target, shipped_paths
from ktrdr.deployment.scripts.script import SENTINEL, Script, render
from ktrdr.deployment.ssh.protocol import END, inline_frame, session_setup, subshell_frame
from ktrdr.secret import Secret
from tests.integration.test_recovery import wait_until
from tests.unit.deployment.shell import SHELLS

ROOT = Path(__file__).resolve().parents[2]
MEMORY = Path("/dev/shm")
TARGETS: tuple[Target, ...] = ("core", "workers")
OLD, NEW = "sha-0000001", "sha-0000002"
SECRETS = {
    name: f"hidden {name} '\"$x"
    for name in (
        *("DB_USER", "DB_PASSWORD", "DB_PASSWORD_VERIFIER", "JWT_SECRET", "GF_ADMIN_PASSWORD"),
        *("WORKER_TOKEN", "DOCKER_AUTH_CONFIG"),
    )
}
# Stand-in for Docker. Each container is a file with its image's tag, state and health; its service
# has the same name. Compose makes containers of the tag that is exported, which are unhealthy if a
# file bad-TAG exists, and keeps their environment. The file `up` can disturb it.
DOCKER = r"""#!/bin/sh
cd "$(dirname "$0")/containers" || exit 1
[ ! -e ../away ] || exit 1
case "$1" in
ps)
for name in *; do
[ -e "$name" ] || continue
read -r tag state health <"$name"
case "$*" in
*label=com.docker.compose.service=*) case "$*" in *"=$name"*) ;; *) continue ;; esac ;;
esac
case "$*" in
*"status=$state"*) echo "$name" ;;
*status=*) ;;
*--all*) echo "$name" ;;
*) [ "$state" != running ] || echo "$name" ;;
esac
done ;;
inspect)
[ "$2" = --format ] || { [ -e "$2" ]; exit; }
format=$3
shift 3
for name; do
read -r tag state health <"$name"
case $format in
*Health*)
service=$name
case $name in ktrdr-core-*) service=${name#ktrdr-core-} && service=${service%-1} ;; esac
echo "$service $state $health $name 0" ;;
*) echo "$name $name $state \"\"" ;;
esac
done ;;
container)
[ -e "../environment-$5" ] || exit 1
mark=${4#"{{range .Config.Env}}"}
mark=${mark%%"{{.}}"*}
while IFS= read -r line; do printf '%s%s' "$mark" "$line"; done <"../environment-$5"
printf '%s\n' "$mark" ;;
start)
shift
for name; do
read -r tag state health <"$name"
echo "$tag running $health" >"$name"
done ;;
rm) rm "$3" ;;
exec) cat >>../input ;;
run) cat >/dev/null; printf %s verifier ;;
compose)
case " $* " in
*" up "*)
[ ! -e ../up ] || . ../up
health=healthy
[ ! -e "../bad-$IMAGE_TAG" ] || health=unhealthy
while read -r name; do
echo "$IMAGE_TAG running $health" >"$name"
printf '%s\n' "IMAGE_TAG=$IMAGE_TAG" "DB_USER=$DB_USER" "DB_PASSWORD=$DB_PASSWORD" \
  "JWT_SECRET=${JWT_SECRET-}" "WORKER_TOKEN=${WORKER_TOKEN-}" \
  "GF_SECURITY_ADMIN_PASSWORD=${GF_ADMIN_PASSWORD-}" >"../environment-$name"
done <../services
env -0 >../environment
esac ;;
esac
"""
# What Compose does before it goes on: stop a service of the new release.
STOPS_ONE = f"""
if [ "$IMAGE_TAG" = {NEW} ]; then
read -r name <../services
echo "{OLD} exited none" >"$name"
echo >../stopped
%s
fi
"""
GOES_ON = STOPS_ONE % "until [ -e ../go-on ]; do /bin/sleep 0.05; done"
HANGS = STOPS_ONE % "exec /bin/sleep 60"


class LocalHost:
    """This machine as a host that runs a release.

    Attributes:
        directory: Directory with its containers, its programs, and what they record.
        workdir: Work directory of the stack.
        env: Environment of the scripts.
    """

    def __init__(self, directory: Path, target: str, mode: str, memory: Path) -> None:
        self.directory, self.target = directory, target
        self.memory = memory
        self.workdir = directory / "it's work"
        units = directory / "etc/systemd/system"
        for each in (directory / "containers", units):
            each.mkdir(parents=True)
        for name, text in {
            "docker": DOCKER,
            # Waits of seconds would make these tests slow.
            "sleep": "#!/bin/sh\nexec /bin/sleep 0.05\n",
            "chown": "#!/bin/sh\n",
            "chgrp": "#!/bin/sh\n",
        }.items():
            (directory / name).write_text(text)
            (directory / name).chmod(0o755)
        self.env = {
            "PATH": f"{directory}:{os.environ['PATH']}",
            "KTRDR_ETC": str(directory / "etc"),
        }
        stack = {"workdir": str(self.workdir), "shared_directory": str(directory)}
        self._inventory = Inventory.model_validate(
            add_defaults({"core": stack, "workers": {"B": stack}, "secrets": {"delivery": mode}})
        )
        self._numbers = itertools.count(1)
        names = [service.name for service in self.plan(OLD).expected]
        if target == "core":
            names = [f"ktrdr-core-{name}-1" for name in names]
        (directory / "services").write_text("".join(f"{name}\n" for name in names))

    def plan(self, tag: str, *, back_from: Plan | None = None, **options: Any) -> Plan:
        """Plan a deploy, or the rollback from one to this release."""
        shipped = [name for target in TARGETS for name in shipped_paths(target) if name[-1] != "/"]
        files = {name: (ROOT / name).read_bytes() for name in shipped}
        settings = f".env.{self.target}"
        files[settings] += f"\n# {tag}\n".encode()
        host, *_ = hosts.select_hosts(self._inventory, [self.target])
        deploy_id = f"r{next(self._numbers)}"
        return make_plan(
            Homelab(self._inventory),
            host,
            Release(tag, tag.removeprefix("sha-"), files),
            DeployId(deploy_id, "ada@laptop", datetime(2026, 11, 24, tzinfo=UTC)),
            DeployOptions(**{"health_timeout": 5, **options}),
            kind=DeployKind.AUTOMATIC_ROLLBACK if back_from else DeployKind.DEPLOY,
            rolled_back_from=back_from.entry.id if back_from else "",
        )

    @property
    def deploy(self) -> Path:
        return self.workdir / RECORDS / "deploy"

    @property
    def tags(self) -> set[str]:
        """Return the tags of the containers that run."""
        lines = [file.read_text().split() for file in (self.directory / "containers").iterdir()]
        return {tag for tag, state, _ in lines if state == "running"}

    @property
    def outcomes(self) -> list[tuple[str, str, str]]:
        """Return id, outcome and reason of each deploy."""
        lines = (self.workdir / RECORDS / "history.jsonl").read_text().splitlines()
        return [(each.id, each.outcome.value, each.reason) for each in parse_history(lines)]

    @property
    def is_locked(self) -> bool:
        lock = str(self.workdir / RECORDS / "lock")
        return subprocess.run(["flock", "-n", "-s", lock, "true"], check=False).returncode == 1

    def processes(self) -> dict[int, str]:
        """Return the processes whose command lines contain the work directory."""
        listed = subprocess.run(
            ["ps", "-ewwo", "pid=,args="], capture_output=True, text=True, check=True
        )
        lines = [line.split(None, 1) for line in listed.stdout.splitlines()]
        return {int(pid): text for pid, text in lines if str(self.workdir) in text}

    def cut_power(self) -> None:
        """Kill all processes of a deploy at once."""
        for pid in self.processes():
            for kill in (os.killpg, os.kill):
                try:
                    kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        wait_until(lambda: not self.processes(), "all processes are gone")

    def restart(self, shell: list[str]) -> None:
        """Do what systemd does at the start of the host."""
        program = self.deploy / "program.sh"
        subprocess.run([*shell, str(program), "resume"], env=self.env, check=True, timeout=60)

    def wait_for_end(self) -> None:
        """Wait until the host has finished the deploy by itself, and check what it leaves."""
        wait_until(lambda: not self.processes(), "the supervisor has ended")
        assert not self.deploy.exists()
        # A process that ends shows no command line before it closes its files.
        wait_until(lambda: not self.is_locked, "the lock is free")
        for name, secret in SECRETS.items():
            for file in self.workdir.rglob("*"):
                assert not file.is_file() or secret.encode() not in file.read_bytes(), (name, file)


class Session:
    """Session of an operator's machine on the host."""

    def __init__(self, host: LocalHost, shell: list[str]) -> None:
        self._host = host
        self._process = subprocess.Popen(
            ["env", "--default-signal", *shell, "-s"],
            env=host.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
        )
        self.send(session_setup("mark", ticks=1_000_000))
        assert self.receive()[0] == 0

    @property
    def group(self) -> int:
        """Return the process group."""
        return self._process.pid

    def send(self, data: bytes) -> None:
        assert self._process.stdin
        self._process.stdin.write(data)

    def receive(self) -> tuple[int, str]:
        """Return the exit code of the script that was sent, and its output."""
        assert self._process.stdout
        lines: list[bytes] = []
        for line in iter(self._process.stdout.readline, b""):
            if line.startswith(b"mark "):
                return int(line.split()[1]), b"".join(lines).decode()
            lines.append(line)
        raise EOFError

    def begin(self, script: Script) -> None:
        values = {name: Secret(text) for name, text in SECRETS.items()}
        text = render(script, values).reveal()
        self.send(inline_frame(text) if script.is_inline else subshell_frame(text))

    def run(self, script: Script) -> tuple[int, str]:
        self.begin(script)
        return self.receive()

    def lock_and_fetch(self, plan: Plan) -> None:
        note = plan.lock_owner.to_json()
        assert self.run(acquire_script(plan.host.workdir, note, wait_s=0))[0] == 0
        step = plan.step(StepKind.FETCH)
        assert step
        code, output = self.run(step.script)
        assert code == 0, output

    def confirm(self, plan: Plan) -> int:
        return self.run(
            plan.record(replace(plan.entry, outcome=DeployOutcome.DEPLOYED).ended_event()).script
        )[0]

    def go_back(self, plan: Plan) -> str:
        return self.run(Script("scripts/go_back.sh", (plan.host.workdir, plan.entry.id)))[1]

    def release(self) -> None:
        self.run(RELEASE_SCRIPT)

    def kill(self) -> None:
        """End the connection without any notice."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            pipe.close()
        self._process.wait(10)


@pytest.fixture
def memory() -> Iterator[Path]:
    if not MEMORY.is_dir():
        pytest.skip("this machine has no /dev/shm")
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="ktrdr-test-") as name:
        yield Path(name)


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def shell(request: pytest.FixtureRequest) -> list[str]:
    return list(request.param)


@pytest.fixture
def open_session(shell: list[str]) -> Iterator[Callable[[LocalHost], Session]]:
    sessions: list[Session] = []

    def start(host: LocalHost) -> Session:
        sessions.append(Session(host, shell))
        return sessions[-1]

    yield start
    for session in sessions:
        session.close()


@pytest.fixture
def new_host(
    tmp_path: Path,
    memory: Path,
    monkeypatch: pytest.MonkeyPatch,
    shell: list[str],
    open_session: Callable[[LocalHost], Session],
) -> Callable[..., LocalHost]:
    """Return a function that creates a host to which a good release was deployed."""
    monkeypatch.setattr(hosts, "SECRETS_ROOT", str(memory / "ktrdr"))
    # The supervisor runs in the shell that the host has as `sh`.
    (tmp_path / "sh").write_text(f'#!/bin/sh\nexec {" ".join(shell)} "$@"\n')
    (tmp_path / "sh").chmod(0o755)

    def create(target: str = "workers", mode: str = "env", *, empty: bool = False) -> LocalHost:
        host = LocalHost(tmp_path, target, mode, memory / "ktrdr")
        if not empty:
            plan, session = host.plan(OLD), open_session(host)
            session.lock_and_fetch(plan)
            code, output = session.run(plan.apply().script)
            assert code == 0, output
            assert session.confirm(plan) == 0
            session.release()
        return host

    return create


@pytest.fixture
def begin(
    open_session: Callable[[LocalHost], Session],
) -> Callable[..., tuple[Session, Plan]]:
    """Return a function that begins a deploy of the new release, and does not wait for its end."""

    def start(host: LocalHost, *, up: str = "", **options: Any) -> tuple[Session, Plan]:
        (host.directory / "up").write_text(up)
        plan = host.plan(NEW, **options)
        back = host.plan(OLD, back_from=plan) if host.tags else None
        session = open_session(host)
        session.lock_and_fetch(plan)
        session.begin(plan.apply(back).script)
        return session, plan

    return start


def wait_for_stop(host: LocalHost) -> None:
    """Wait until Compose has stopped a service."""
    wait_until((host.directory / "stopped").exists, "a service is stopped")


# ------------------------------------------------------------------------------- the decision


def test_a_confirmed_release_stays(new_host, begin) -> None:
    host = new_host()
    session, plan = begin(host)
    code, output = session.receive()
    assert (code, output) == (0, f"== rotated\n{SENTINEL}\n")
    assert host.is_locked
    assert (host.deploy / "program.sh").exists()
    assert session.confirm(plan) == 0
    assert host.is_locked, "until the operator releases it"
    session.release()
    host.wait_for_end()
    assert host.tags == {NEW}
    assert [outcome for _, outcome, _ in host.outcomes] == ["deployed", "deployed"]


def test_the_end_of_the_connection_while_a_release_is_applied_makes_the_host_go_back(
    new_host, begin
) -> None:
    host = new_host()
    session, plan = begin(host, up=GOES_ON)
    wait_for_stop(host)
    session.kill()
    assert host.is_locked, "the host still works"
    (host.directory / "go-on").touch()
    host.wait_for_end()
    assert host.tags == {OLD}
    (_, failed, back) = host.outcomes
    reason = "the connection of the operator ended before the deploy was confirmed"
    assert failed == (plan.entry.id, "failed", reason)
    assert back[1] == "deployed"


def test_the_end_of_the_connection_before_the_confirmation_makes_the_host_go_back(
    new_host, begin
) -> None:
    host = new_host()
    session, _ = begin(host)
    assert session.receive()[0] == 0
    session.kill()
    host.wait_for_end()
    assert host.tags == {OLD}
    assert (host.workdir / ".env.workers").read_text().endswith(f"# {OLD}\n")


def test_a_deploy_that_follows_waits_until_the_host_has_gone_back(
    new_host, begin, open_session
) -> None:
    host = new_host()
    session, plan = begin(host, up=f"[ $IMAGE_TAG = {NEW} ] || /bin/sleep 0.5")
    assert session.receive()[0] == 0
    session.kill()
    note = plan.lock_owner.to_json()
    later = open_session(host)
    assert later.run(acquire_script(plan.host.workdir, note, wait_s=0))[0] == 0
    assert host.tags == {OLD}
    assert len(host.outcomes) == 3


def test_a_release_that_is_not_confirmed_in_time_is_replaced(new_host, begin) -> None:
    host = new_host()
    session, plan = begin(host, confirm_within=1)
    assert session.receive()[0] == 0
    wait_until(lambda: not host.processes(), "the supervisor has ended")
    assert host.tags == {OLD}
    assert session.confirm(plan) == 73, "it is too late"
    session.release()
    host.wait_for_end()
    assert [outcome for _, outcome, _ in host.outcomes] == ["deployed", "cut off", "deployed"]


def test_the_operator_records_a_failure_after_the_host_has_gone_back(new_host, begin) -> None:
    host = new_host()
    session, plan = begin(host)
    assert session.receive()[0] == 0
    output = session.go_back(plan)
    assert "== rotated\n" in output
    entries = parse_history(output.partition("== history\n")[2].splitlines())
    assert [entry.outcome for entry in entries if entry.rolled_back_from] == [
        DeployOutcome.DEPLOYED
    ]
    failed = replace(plan.entry, outcome=DeployOutcome.FAILED, reason="it is ill")
    assert session.run(plan.record(failed.ended_event(), good=False).script)[0] == 0
    session.release()
    host.wait_for_end()
    assert host.tags == {OLD}
    assert host.outcomes[1] == (plan.entry.id, "failed", "it is ill")


def test_ctrl_c_while_a_release_is_applied_ends_that_and_goes_back(new_host, begin) -> None:
    host = new_host()
    session, plan = begin(host, up=HANGS)
    wait_for_stop(host)
    session.send(END)
    assert session.receive()[0] != 0
    session.go_back(plan)
    assert host.tags == {OLD}
    session.release()
    host.wait_for_end()


def test_the_host_goes_back_although_it_can_write_no_history(new_host, begin) -> None:
    host = new_host()
    session, _ = begin(host)
    assert session.receive()[0] == 0
    history = host.workdir / RECORDS / "history.jsonl"
    history.unlink()
    history.mkdir()
    session.kill()
    wait_until(lambda: not host.processes(), "the supervisor has ended")
    assert host.tags == {OLD}


def test_the_host_goes_back_although_docker_stops_meanwhile(new_host, begin) -> None:
    host = new_host()
    session, _ = begin(host)
    assert session.receive()[0] == 0
    (host.directory / "away").touch()
    session.kill()
    wait_until(lambda: "go back" in (host.deploy / "phases").read_text(), "the host goes back")
    (host.directory / "away").unlink()
    host.wait_for_end()
    assert host.tags == {OLD}


def test_a_rollback_that_fails_too_starts_what_was_stopped(new_host, begin) -> None:
    host = new_host()
    up = f"[ $IMAGE_TAG = {NEW} ] || exit 1\n{STOPS_ONE % 'exit 1'}"
    session, _ = begin(host, up=up)
    assert session.receive()[0] == 1
    session.kill()
    host.wait_for_end()
    assert host.tags == {OLD}
    assert [outcome for _, outcome, _ in host.outcomes] == ["deployed", "failed", "failed"]


def test_the_first_deploy_has_no_way_back_and_stays(new_host, begin) -> None:
    host = new_host(empty=True)
    session, _ = begin(host)
    assert session.receive()[0] == 0
    session.kill()
    host.wait_for_end()
    assert host.tags == {NEW}
    assert [outcome for _, outcome, _ in host.outcomes] == ["failed"]


def test_a_released_lock_makes_the_host_go_back(new_host, begin, open_session) -> None:
    host = new_host()
    session, plan = begin(host)
    assert session.receive()[0] == 0
    assert open_session(host).run(Script("scripts/break_lock.sh", (plan.host.workdir,)))[0] == 0
    host.wait_for_end()
    assert host.tags == {OLD}


def test_another_operator_can_watch_what_the_host_does(new_host, begin, open_session) -> None:
    host = new_host()
    session, plan = begin(host, up=GOES_ON)
    wait_for_stop(host)
    other = open_session(host)
    other.begin(Script("scripts/watch.sh", (plan.host.workdir,)))
    session.kill()
    (host.directory / "go-on").touch()
    code, output = other.receive()
    assert code == 0
    phases = [line.partition(" ")[2] for line in output.splitlines()]
    assert phases[:2] == [f"apply {NEW}", "wait until healthy"]
    host.wait_for_end()
    assert other.run(Script("scripts/watch.sh", (plan.host.workdir,)))[0] == 0


# ----------------------------------------------------------------------------------- detached


def test_healthy_services_confirm_a_detached_deploy(new_host, begin) -> None:
    host = new_host()
    session, plan = begin(host, is_detached=True)
    assert session.receive()[0] == 0
    session.release()
    session.kill()
    host.wait_for_end()
    assert host.tags == {NEW}
    assert host.outcomes[1] == (plan.entry.id, "deployed", "")
    assert (host.workdir / RECORDS / "releases" / f"{plan.entry.configuration}.tar.gz").exists()


def test_a_detached_deploy_whose_services_stay_unhealthy_goes_back(new_host, begin) -> None:
    host = new_host()
    (host.directory / f"bad-{NEW}").touch()
    session, plan = begin(host, is_detached=True, health_timeout=1)
    assert session.receive()[0] == 0
    session.release()
    session.kill()
    host.wait_for_end()
    assert host.tags == {OLD}
    reason = "not all services became healthy within 1 s"
    assert host.outcomes[1] == (plan.entry.id, "failed", reason)


def test_a_detached_deploy_that_could_not_be_applied_is_not_confirmed_by_what_still_runs(
    new_host, begin
) -> None:
    host = new_host()
    session, _ = begin(host, up=f"[ $IMAGE_TAG = {OLD} ] || exit 1", is_detached=True)
    assert session.receive()[0] == 1
    session.kill()
    host.wait_for_end()
    assert host.tags == {OLD}
    assert host.outcomes[1][1:] == ("failed", "the release could not be applied")


# ---------------------------------------------------------------------- after the supervisor's end


@pytest.mark.parametrize("target", ["workers", "core"])
def test_after_a_power_cut_the_host_goes_back_with_the_secrets_of_its_containers(
    new_host, begin, shell, target
) -> None:
    host = new_host(target)
    session, plan = begin(host, up=HANGS)
    wait_for_stop(host)
    session.kill()
    host.cut_power()
    host.restart(shell)
    host.wait_for_end()
    assert host.tags == {OLD}
    exported = (host.directory / "environment").read_text().split("\0")
    for name in plan.config.secrets:
        assert f"{name}={SECRETS[name]}" in exported
    assert host.outcomes[1][1] == "failed"
    assert host.outcomes[2][1] == "deployed"


def test_after_a_power_cut_without_secrets_what_was_stopped_runs_again(
    new_host, begin, shell
) -> None:
    host = new_host(mode="tmpfs")
    session, _ = begin(host, up=HANGS)
    wait_for_stop(host)
    session.kill()
    host.cut_power()
    (host.directory / "environment").unlink()
    host.restart(shell)
    host.wait_for_end()
    assert host.tags == {OLD}
    assert not (host.directory / "environment").exists(), "Compose was not called"


def test_containers_that_were_stopped_before_stay_so_after_a_power_cut(
    new_host, begin, shell
) -> None:
    host = new_host(mode="tmpfs")
    other = host.directory / "containers/other"
    other.write_text(f"{OLD} exited none\n")
    session, _ = begin(host, up=HANGS)
    wait_for_stop(host)
    session.kill()
    host.cut_power()
    host.restart(shell)
    assert "exited" in other.read_text()
    assert len([each for each in (host.directory / "containers").iterdir() if each != other]) == 2


def test_without_a_way_back_a_deploy_is_finished_after_a_power_cut(new_host, open_session, shell):
    """Such as a rotation: the database has the new password, and the backend the former one."""
    host = new_host()
    plan = host.plan(NEW)
    session = open_session(host)
    session.lock_and_fetch(plan)
    (host.directory / "up").write_text(HANGS)
    session.begin(plan.apply().script)
    wait_for_stop(host)
    session.kill()
    host.cut_power()
    (host.directory / "up").unlink()
    host.restart(shell)
    host.wait_for_end()
    assert host.tags == {NEW}
    assert host.outcomes[1][1] == "failed", "nobody has confirmed it"


def test_a_power_cut_right_after_the_confirmation_changes_nothing(new_host, begin, shell) -> None:
    host = new_host()
    session, plan = begin(host)
    assert session.receive()[0] == 0
    host.cut_power()
    session.kill()
    (host.deploy / f"undecided.{plan.entry.id}").rename(host.deploy / f"operator.{plan.entry.id}")
    host.restart(shell)
    assert host.tags == {NEW}


def test_a_restart_long_after_a_supervisor_was_killed_does_not_go_back(
    new_host, begin, open_session, shell
) -> None:
    """Another deploy has found that all is well."""
    host = new_host()
    session, _ = begin(host)
    assert session.receive()[0] == 0
    host.cut_power()
    session.kill()
    plan, later = host.plan(NEW), open_session(host)
    later.lock_and_fetch(plan)
    ended = replace(plan.entry, outcome=DeployOutcome.UNCHANGED)
    events = (ended.begun_event(), ended.ended_event())
    program = (host.deploy / "program.sh").read_bytes()
    assert later.run(plan.record(*events, ends=False).script)[0] == 0
    later.release()
    assert not host.deploy.exists()
    host.deploy.mkdir()
    (host.deploy / "program.sh").write_bytes(program)
    (host.deploy / "undecided.r2").touch()
    host.restart(shell)
    assert host.tags == {NEW}


def test_an_operator_who_is_still_there_goes_back_although_the_supervisor_was_killed(
    new_host, begin
) -> None:
    host = new_host()
    session, plan = begin(host, up=HANGS)
    wait_for_stop(host)
    host.cut_power()
    assert session.receive()[0] == 70
    session.go_back(plan)
    assert host.tags == {OLD}
    session.release()
    host.wait_for_end()


def test_nothing_goes_on_with_a_deploy_after_services_were_stopped(
    new_host, begin, open_session
) -> None:
    host = new_host()
    session, _ = begin(host)
    assert session.receive()[0] == 0
    host.cut_power()
    session.kill()
    later, plan = open_session(host), host.plan(OLD)
    note = plan.lock_owner.to_json()
    assert later.run(acquire_script(plan.host.workdir, note, wait_s=0))[0] == 0
    assert later.run(Script("scripts/stop.sh", (plan.host.workdir, note)))[0] == 0
    assert not host.deploy.exists()


# -------------------------------------------------------------------------------- what it leaves


def test_only_the_supervisor_holds_the_lock_besides_the_session(new_host, begin) -> None:
    host = new_host()
    session, _ = begin(host, up=GOES_ON)
    wait_for_stop(host)
    lock = (host.workdir / RECORDS / "lock").stat()
    holders = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            files = [each.stat() for each in (process / "fd").iterdir()]
            command = (process / "cmdline").read_text().replace("\0", " ")
            group = os.getpgid(int(process.name))
        except OSError:
            continue
        is_open = any((each.st_dev, each.st_ino) == (lock.st_dev, lock.st_ino) for each in files)
        if is_open and group != session.group:
            holders.append(command)
    (host.directory / "go-on").touch()
    assert session.receive()[0] == 0
    (holder,) = holders
    assert "program.sh run" in holder


def test_root_has_systemd_go_on_after_a_restart_of_the_host(new_host) -> None:
    if os.geteuid():
        pytest.skip("only root can do this")
    host = new_host()
    units = host.directory / "etc/systemd/system"
    unit = (units / "multi-user.target.wants/ktrdr-workers-recovery.service").read_text()
    assert f"\nConditionPathExists={host.workdir}/.ktrdr/deploy/program.sh\n" in unit
    assert f"\nWorkingDirectory={host.workdir}\n" in unit
    assert "\nUser=root\n" in unit
