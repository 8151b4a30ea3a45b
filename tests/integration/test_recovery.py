"""Recovery of a host after a cut-off, by a real shell with a stand-in for Docker."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ktrdr.deployment.hosts.history import RECORDS
from ktrdr.deployment.scripts.script import Script, quote, render, repeat
from ktrdr.deployment.ssh.protocol import session_setup, subshell_frame
from tests.unit.deployment.shell import SCRIPTS, SHELLS, write_script

NOTE = '{"note"}'

# Stand-in for Docker. Each container is a file that holds its state: `running`, `created`,
# `exited`, `stops N` (stops after N further queries), or `failed` (exited, and cannot be started).
# Its service has the same name.
DOCKER = r"""#!/bin/sh
cd "$(dirname "$0")/containers" || exit 1
echo "$*" >>../calls
[ ! -e ../away ] || exit 1
case "$1" in
ps)
for name in *; do
[ -e "$name" ] || continue
case "$*" in
*Names*) echo "$name" ;;
*)
read -r state left <"$name"
case "$state" in
stops)
if [ "$left" -gt 0 ]; then echo "stops $((left - 1))"; else echo exited; fi >"$name" ;;
exited|created|failed) echo "$name" ;;
esac ;;
esac
done ;;
start) shift; for name; do [ -e "../broken-$name" ] || echo running >"$name"; done ;;
inspect)
[ "$2" != --format ] || { shift 3
for name; do
read -r state <"$name"
case "$state" in
failed) echo "$name $name exited \"task already exists\"" ;;
*) echo "$name $name $state \"\"" ;;
esac
done
exit; }
[ -e "$2" ] ;;
rm) rm "$3" ;;
rename) mv "$2" "$3" ;;
esac
"""


class LocalHost:
    """This machine as a host with simulated containers.

    Attributes:
        directory: Directory with the containers, and the programs that the scripts find first.
        workdir: Work directory of the stack.
        env: Environment of the scripts.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "containers").mkdir()
        (directory / "docker").write_text(DOCKER)
        (directory / "docker").chmod(0o755)
        # A query each second would make these tests slow.
        (directory / "sleep").write_text("#!/bin/sh\nexec /bin/sleep 0.05\n")
        (directory / "sleep").chmod(0o755)
        self.workdir = directory / "work dir"
        (self.workdir / RECORDS).mkdir(parents=True)
        self.lock()
        self.env = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}

    def lock(self) -> None:
        """Acquire the lock, later than all files so far by the clock of any file system."""
        time.sleep(0.02)
        self.lock_file.write_text(f"1 {NOTE}\n")
        time.sleep(0.02)

    @property
    def lock_file(self) -> Path:
        return self.workdir / RECORDS / "lock"

    def set_containers(self, **containers: str) -> None:
        """Set the states of containers."""
        for name, state in containers.items():
            (self.directory / "containers" / name).write_text(f"{state}\n")

    @property
    def containers(self) -> dict[str, str]:
        files = (self.directory / "containers").iterdir()
        # A file is empty while it is written.
        return {file.name: file.read_text().partition("\n")[0].partition(" ")[0] for file in files}

    @property
    def calls(self) -> list[str]:
        return (self.directory / "calls").read_text().splitlines()

    def recover(self, seconds: int = 20) -> int:
        body = f'    read_stopped_before "$1"\n    recover p {seconds}'
        return self.run(body, "project", "recreation", "recovery", arguments=[str(self.workdir)])

    def run(self, body: str, *libraries: str, arguments: Sequence[str]) -> int:
        """Run a script; return its exit code."""
        file = write_script(self.directory, body, *libraries).file
        script = render(Script(file, tuple(arguments)), {}).reveal()
        return subprocess.run(["sh", "-c", script], env=self.env, check=False).returncode

    def changing_script(self, *lines: str, secrets: Sequence[str] = ()) -> str:
        """Return a script that holds the lock and installs the watchdog."""
        body = [
            f"WATCHDOG_SH=$(cat {SCRIPTS}/watchdog.sh)",
            f"exec 9<>{quote(str(self.lock_file))}",
            "flock 9",
            'start_watchdog "$@"',
            *lines,
        ]
        file = write_script(self.directory, "\n".join(body), "project", "start_watchdog").file
        arguments = (str(self.workdir), "p", NOTE, *secrets)
        return render(Script(file, arguments), {}).reveal()

    def stopping_script(self) -> str:
        """Return such a script that stops the database, prints a dot, and goes on for long."""
        db = quote(f"{self.directory}/containers/db")
        # The work is a program of its own before anything can happen to it.
        work = "sh -c 'echo .; exec /bin/sleep 30' 9>&-"
        return self.changing_script(f"echo exited >{db}", work)

    def run_changing_script(self) -> None:
        """Run such a script to its end."""
        subprocess.run(["sh", "-c", self.changing_script()], env=self.env, check=True)

    def wait_for_watchdog(self) -> None:
        """Wait until the watchdog has done its work and ended."""
        wait_until(lambda: not watchdogs(self), "the watchdog has ended")


def watchdogs(host: LocalHost) -> list[str]:
    """Return the background processes, whose command lines contain the work directory."""
    listed = subprocess.run(["ps", "-ewwo", "args="], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if str(host.workdir) in line]


def wait_until(condition: Callable[[], object], description: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"timed out waiting until {description}"
        time.sleep(0.05)


@pytest.fixture
def host(tmp_path: Path) -> LocalHost:
    return LocalHost(tmp_path)


def test_stopped_containers_are_started(host) -> None:
    host.set_containers(db="exited", backend="running")
    assert host.recover() == 0
    assert host.containers == {"db": "running", "backend": "running"}


def test_a_container_that_stops_late_is_started_too(host) -> None:
    """Docker was told to stop it before the cut-off, and waits for its grace period."""
    host.set_containers(db="stops 1")
    assert host.recover() == 0
    assert host.containers == {"db": "running"}


def test_running_containers_are_not_started(host) -> None:
    host.set_containers(db="running")
    assert host.recover() == 0
    assert not [call for call in host.calls if call.startswith("start")]


def test_a_recovery_gives_up_after_its_timeout(host) -> None:
    host.set_containers(db="exited")
    (host.directory / "broken-db").touch()
    began = time.monotonic()
    assert host.recover(2) == 1
    assert time.monotonic() - began < 8


def test_a_recovery_waits_for_docker(host) -> None:
    host.set_containers(db="exited")
    (host.directory / "away").touch()
    back = subprocess.Popen(["sh", "-c", f"sleep 2; rm {host.directory}/away"])
    assert host.recover() == 0
    assert host.containers == {"db": "running"}
    back.wait()


def test_an_unfinished_replacement_is_undone(host) -> None:
    host.set_containers(**{"db": "exited", "0123456789ab_db": "exited"})
    assert host.recover() == 0
    assert host.containers == {"db": "running"}


def test_a_replacement_of_a_removed_container_is_finished(host) -> None:
    host.set_containers(**{"0123456789ab_db": "exited"})
    assert host.recover() == 0
    assert host.containers == {"db": "running"}


def apply(host: LocalHost, *services: str) -> None:
    """Apply a release that changes nothing, for some services."""
    libraries = ("output", "hooks", "stack", "release_files", "project", "recreation", "apply")
    options = (
        *("--project", "p", "--workdir", str(host.workdir), "--compose-file", "c.yml"),
        *("--env-file", ".env", *repeat("--service", services), "--"),
    )
    assert host.run('    recall=\n    apply_release "$@"', *libraries, arguments=options) == 0


def test_containers_that_cannot_be_started_are_removed_so_that_compose_recreates_them(host) -> None:
    host.set_containers(db="created", backend="failed", grafana="exited", jaeger="running")
    apply(host, "db", "backend", "grafana", "jaeger")
    assert host.containers == {"grafana": "exited", "jaeger": "running"}


def test_only_containers_of_the_deployed_services_are_removed(host) -> None:
    host.set_containers(db="created", backend="created")
    apply(host, "backend")
    assert host.containers == {"db": "created"}


def test_running_containers_are_neither_inspected_nor_removed(host) -> None:
    host.set_containers(db="running")
    apply(host, "db")
    assert {call.split()[0] for call in host.calls} == {"ps", "compose"}


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_the_watchdog_starts_the_services_of_a_script_that_was_ended(host, by) -> None:
    """It outlives the script, and holds the host's lock meanwhile."""
    host.set_containers(db="running", grafana="exited")
    with subprocess.Popen(
        # A shell cannot trap signals that its parent ignores, as nohup does.
        ["env", "--default-signal", "sh", "-c", host.stopping_script()],
        env=host.env,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b".\n"
        os.killpg(process.pid, by)
        assert process.wait(10) == (143 if by != signal.SIGKILL else -by)
    host.wait_for_watchdog()
    assert host.lock_file.read_text().split(" ", 1)[1] == f"{NOTE}\n"
    assert host.containers == {"db": "running", "grafana": "exited"}, "as before"


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_the_watchdog_starts_services_even_on_a_slow_machine(host, shell) -> None:
    """All processes of the connection are killed as soon as the script has ended."""
    host.set_containers(db="running")
    # A busy machine starts programs late.
    slow = f'#!/bin/sh\n/bin/sleep 0.5\nexec {shutil.which("setsid")} "$@"\n'
    (host.directory / "setsid").write_text(slow)
    (host.directory / "setsid").chmod(0o755)
    # The guard of a silent connection needs the real program.
    (host.directory / "sleep").unlink()
    with subprocess.Popen(
        ["env", "--default-signal", *shell, "-s"],
        env=host.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        bufsize=0,
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(session_setup("mark"))
        assert process.stdout.readline() == b"mark 0\n"
        process.stdin.write(subshell_frame(host.stopping_script()))
        assert process.stdout.readline() == b".\n"
        process.stdin.close()
    host.wait_for_watchdog()
    assert host.containers == {"db": "running"}


@pytest.mark.parametrize("end", ["true", "false", "exit 7"])
def test_the_watchdog_does_nothing_after_a_script_that_ends_by_itself(host, end) -> None:
    """The operator's machine learns the exit code, and undoes a failure itself."""
    host.set_containers(db="exited")
    subprocess.run(["sh", "-c", host.changing_script(end)], env=host.env, check=False)
    host.wait_for_watchdog()
    assert [call.split()[0] for call in host.calls] == ["ps"]
    assert host.containers == {"db": "exited"}


def test_the_watchdog_receives_no_secret(host) -> None:
    """It may outlive the scripts that need one."""
    processes = f"ps -ewwo pid=,args= | grep -F {quote(str(host.workdir))}"
    script = host.changing_script(
        f"for pid in $({processes} | awk '{{ print $1 }}'); do",
        """[ "$pid" = $$ ] || tr '\\0' '\\n' <"/proc/$pid/environ" || :""",
        "done",
        secrets=["A", "B"],
    )
    env = host.env | {"A": "hidden-a", "B": "hidden b", "C": "shown"}
    process = subprocess.run(
        ["sh", "-c", script], env=env, check=True, capture_output=True, text=True
    )
    assert "C=shown" in process.stdout
    assert "hidden" not in process.stdout


def test_the_watchdog_keeps_the_exit_code_of_a_script(host) -> None:
    script = host.changing_script("exit 7")
    assert subprocess.run(["sh", "-c", script], env=host.env, check=False).returncode == 7


def test_containers_that_were_stopped_before_stay_stopped(host) -> None:
    host.set_containers(db="running", grafana="exited")
    host.run_changing_script()
    host.set_containers(db="exited")
    assert host.recover() == 0
    assert host.containers == {"db": "running", "grafana": "exited"}


def test_the_replacement_of_a_container_that_was_stopped_before_is_undone(host) -> None:
    host.set_containers(grafana="exited")
    host.run_changing_script()
    host.set_containers(**{"0123456789ab_grafana": "exited"})
    assert host.recover() == 0
    assert host.containers == {"grafana": "exited"}


def test_containers_that_an_earlier_script_under_the_same_lock_stopped_are_started(host) -> None:
    """Such as the restart of a service that others depend on."""
    host.set_containers(db="running", grafana="exited")
    host.run_changing_script()
    host.set_containers(db="exited")
    host.run_changing_script()
    assert host.recover() == 0
    assert host.containers == {"db": "running", "grafana": "exited"}


def test_stopped_containers_are_recorded_again_under_every_lock(host) -> None:
    host.set_containers(db="exited", grafana="running")
    host.run_changing_script()
    host.set_containers(db="running", grafana="exited")
    host.lock()
    host.run_changing_script()
    host.set_containers(db="exited")
    assert host.recover() == 0
    assert host.containers == {"db": "running", "grafana": "exited"}


def test_the_record_of_an_earlier_lock_does_not_count(host) -> None:
    """The containers may have been started since, by hand or by a deploy."""
    host.set_containers(db="exited")
    host.run_changing_script()
    host.lock()
    assert host.recover() == 0
    assert host.containers == {"db": "running"}
