"""What puts a host right after a cut-off, run by a real shell with a stand-in for Docker."""

from __future__ import annotations

import fcntl
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
from ktrdr.deployment.ssh.protocol import apart, opening
from tests.unit.deployment.shell import SCRIPTS, SHELLS, script_of

NOTE = '{"note"}'

# Keeps each container in a file of its name, which holds `running`, `created`, `exited`, `stops N`
# (was told to stop, and does so when it was looked at N times more) or `failed` (exited, and could
# not be started). Its service has its name.
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


class Host:
    """Containers, and a shell beside them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "containers").mkdir()
        (place / "docker").write_text(DOCKER)
        (place / "docker").chmod(0o755)
        # A look every second would make these tests slow.
        (place / "sleep").write_text("#!/bin/sh\nexec /bin/sleep 0.05\n")
        (place / "sleep").chmod(0o755)
        self.workdir = place / "work dir"
        (self.workdir / RECORDS).mkdir(parents=True)
        self.lock()
        self.env = {**os.environ, "PATH": f"{place}:{os.environ['PATH']}"}

    def lock(self) -> None:
        """Somebody takes the lock; later than what was written before, for any file system."""
        time.sleep(0.02)
        self.lock_file.write_text(f"1 {NOTE}\n")
        time.sleep(0.02)

    @property
    def lock_file(self) -> Path:
        return self.workdir / RECORDS / "lock"

    def has(self, **containers: str) -> None:
        for name, state in containers.items():
            (self.place / "containers" / name).write_text(f"{state}\n")

    @property
    def containers(self) -> dict[str, str]:
        files = (self.place / "containers").iterdir()
        # A file that is just being written is empty.
        return {file.name: file.read_text().partition("\n")[0].partition(" ")[0] for file in files}

    @property
    def calls(self) -> list[str]:
        return (self.place / "calls").read_text().splitlines()

    def recover(self, seconds: int = 20) -> int:
        return self.run("recover", str(self.workdir), "p", str(seconds))

    def run(self, file: str, *arguments: str) -> int:
        script = render(Script(f"scripts/{file}.sh", arguments), {}).reveal()
        return subprocess.run(["sh", "-c", script], env=self.env, check=False).returncode

    def changing(self, *lines: str, secrets: Sequence[str] = ()) -> str:
        """A script that has the lock, and may be cut off."""
        body = [
            f"WATCHDOG_SH=$(cat {SCRIPTS}/watchdog.sh)",
            *(f"exec 9<>{quote(str(self.lock_file))}", "flock 9", 'stand_by "$@"'),
            *lines,
        ]
        file = script_of(self.place, "\n".join(body), "project", "stand_by").file
        arguments = (str(self.workdir), "p", NOTE, *secrets)
        return render(Script(file, arguments), {}).reveal()

    def stopping_db(self) -> str:
        """As `changing`, in the middle of it when it has printed a dot."""
        db = quote(f"{self.place}/containers/db")
        # What does the work has become its own program before anything can happen to it.
        work = "sh -c 'echo .; exec /bin/sleep 30' 9>&-"
        return self.changing(f"echo exited >{db}", work)

    def begin(self) -> None:
        """A script that may be cut off, and is not."""
        subprocess.run(["sh", "-c", self.changing()], env=self.env, check=True)

    def comes_to_rest(self) -> None:
        """Waits until whatever stands by has done its work."""
        wait_until(lambda: not standing_by(self), "nobody stands by any more")


def standing_by(host: Host) -> list[str]:
    """The processes that go on by themselves, whose words hold the work directory."""
    listed = subprocess.run(["ps", "-ewwo", "args="], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if str(host.workdir) in line]


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_what_is_stopped_is_started(host) -> None:
    host.has(db="exited", backend="running")
    assert host.recover() == 0
    assert host.containers == {"db": "running", "backend": "running"}


def test_what_stops_late_is_started_too(host) -> None:
    """It was told to stop before the cut-off, and has its grace."""
    host.has(db="stops 1")
    assert host.recover() == 0
    assert host.containers == {"db": "running"}


def test_where_all_runs_nothing_is_touched(host) -> None:
    host.has(db="running")
    assert host.recover() == 0
    assert not [call for call in host.calls if call.startswith("start")]


def test_it_gives_up_when_the_time_is_over(host) -> None:
    host.has(db="exited")
    (host.place / "broken-db").touch()
    began = time.monotonic()
    assert host.recover(2) == 1
    assert time.monotonic() - began < 8


def test_it_waits_for_a_docker_that_is_away(host) -> None:
    host.has(db="exited")
    (host.place / "away").touch()
    back = subprocess.Popen(["sh", "-c", f"sleep 2; rm {host.place}/away"])
    assert host.recover() == 0
    assert host.containers == {"db": "running"}
    back.wait()


def test_a_replacement_that_was_not_finished_is_taken_back(host) -> None:
    host.has(**{"db": "exited", "0123456789ab_db": "exited"})
    assert host.recover() == 0
    assert host.containers == {"db": "running"}


def test_a_replacement_whose_old_one_is_gone_takes_its_place(host) -> None:
    host.has(**{"0123456789ab_db": "exited"})
    assert host.recover() == 0
    assert host.containers == {"db": "running"}


def apply(host: Host, *services: str) -> None:
    """Lets Compose bring services up, which changes nothing here."""
    options = (
        *("--project", "p", "--workdir", str(host.workdir), "--compose-file", "c.yml"),
        *("--env-file", ".env", "--note", NOTE, "--recovery-note", "{}", "--event", "{}"),
        *repeat("--service", services),
    )
    with host.lock_file.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert host.run("apply", *options) == 0


def test_what_never_ran_or_could_not_be_started_is_removed_for_compose_to_make_anew(host) -> None:
    host.has(db="created", backend="failed", grafana="exited", jaeger="running")
    apply(host, "db", "backend", "grafana", "jaeger")
    assert host.containers == {"grafana": "exited", "jaeger": "running"}


def test_what_is_not_brought_up_now_is_not_removed(host) -> None:
    host.has(db="created", backend="created")
    apply(host, "backend")
    assert host.containers == {"db": "created"}


def test_where_all_runs_nothing_is_looked_at_or_removed(host) -> None:
    host.has(db="running")
    apply(host, "db")
    assert {call.split()[0] for call in host.calls} == {"ps", "compose"}


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_script_that_is_ended_in_mid_work_has_its_services_started_afterwards(host, by) -> None:
    """By a process that outlives it, and has the host's lock meanwhile."""
    host.has(db="running", grafana="exited")
    with subprocess.Popen(
        # A shell cannot trap what it was told to ignore, as all that nohup starts is.
        ["env", "--default-signal", "sh", "-c", host.stopping_db()],
        env=host.env,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b".\n"
        os.killpg(process.pid, by)
        assert process.wait(10) == (143 if by != signal.SIGKILL else -by)
    host.comes_to_rest()
    assert host.lock_file.read_text().split(" ", 1)[1] == '{"note"}\n'
    assert host.containers == {"db": "running", "grafana": "exited"}, "as before"


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_services_are_started_afterwards_however_late_the_machine_gets_to_it(host, shell) -> None:
    """All that belongs to the connection is killed at once when the script has ended."""
    host.has(db="running")
    # What a machine does that has much else to do.
    slow = f'#!/bin/sh\n/bin/sleep 0.5\nexec {shutil.which("setsid")} "$@"\n'
    (host.place / "setsid").write_text(slow)
    (host.place / "setsid").chmod(0o755)
    # The guard of a silent connection counts its looks.
    (host.place / "sleep").unlink()
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
        process.stdin.write(opening("mark"))
        assert process.stdout.readline() == b"mark 0\n"
        process.stdin.write(apart(host.stopping_db()))
        assert process.stdout.readline() == b".\n"
        process.stdin.close()
    host.comes_to_rest()
    assert host.containers == {"db": "running"}


@pytest.mark.parametrize("end", ["true", "false", "exit 7"])
def test_a_script_that_ends_by_itself_leaves_nobody_behind(host, end) -> None:
    """Nor does one that fails: whoever is told so sees to the rest."""
    host.has(db="exited")
    subprocess.run(["sh", "-c", host.changing(end)], env=host.env, check=False)
    host.comes_to_rest()
    assert [call.split()[0] for call in host.calls] == ["ps"]
    assert host.containers == {"db": "exited"}


def test_who_stands_by_is_given_no_secret(host) -> None:
    """It may outlive all that needs one."""
    look = f"ps -ewwo pid=,args= | grep -F {quote(str(host.workdir))}"
    script = host.changing(
        f"for pid in $({look} | awk '{{ print $1 }}'); do",
        """[ "$pid" = $$ ] || tr '\\0' '\\n' <"/proc/$pid/environ" || :""",
        "done",
        secrets=["A", "B"],
    )
    env = host.env | {"A": "hidden-a", "B": "hidden b", "C": "shown"}
    done = subprocess.run(["sh", "-c", script], env=env, check=True, capture_output=True, text=True)
    assert "C=shown" in done.stdout
    assert "hidden" not in done.stdout


def test_a_script_that_ends_by_itself_gives_its_own_exit_code(host) -> None:
    script = host.changing("exit 7")
    assert subprocess.run(["sh", "-c", script], env=host.env, check=False).returncode == 7


def test_what_was_stopped_before_is_left_stopped(host) -> None:
    host.has(db="running", grafana="exited")
    host.begin()
    host.has(db="exited")
    assert host.recover() == 0
    assert host.containers == {"db": "running", "grafana": "exited"}


def test_a_replacement_of_what_was_stopped_before_is_taken_back_and_not_started(host) -> None:
    host.has(grafana="exited")
    host.begin()
    host.has(**{"0123456789ab_grafana": "exited"})
    assert host.recover() == 0
    assert host.containers == {"grafana": "exited"}


def test_what_a_first_script_under_a_lock_has_stopped_is_not_taken_for_stopped_before(host) -> None:
    """Such as that of the release that failed, before the way back begins."""
    host.has(db="running", grafana="exited")
    host.begin()
    host.has(db="exited")
    host.begin()
    assert host.recover() == 0
    assert host.containers == {"db": "running", "grafana": "exited"}


def test_what_is_stopped_on_purpose_is_noted_anew_under_every_lock(host) -> None:
    host.has(db="exited", grafana="running")
    host.begin()
    host.has(db="running", grafana="exited")
    host.lock()
    host.begin()
    host.has(db="exited")
    assert host.recover() == 0
    assert host.containers == {"db": "running", "grafana": "exited"}


def test_what_was_noted_under_an_earlier_lock_counts_no_more(host) -> None:
    """It may have been started since, by hand or by a deploy."""
    host.has(db="exited")
    host.begin()
    host.lock()
    assert host.recover() == 0
    assert host.containers == {"db": "running"}


# ------------------------------------------------------------------------------- Docker away


def test_a_docker_that_comes_back_is_waited_for(host) -> None:
    (host.place / "away").touch()
    with subprocess.Popen(["sh", "-c", f"/bin/sleep 0.3; rm {host.place}/away"]):
        assert host.run("wait_for_docker", "20") == 0


def test_a_docker_that_stays_away_is_given_up(host) -> None:
    (host.place / "away").touch()
    assert host.run("wait_for_docker", "1") == 1
