"""What puts a host right after a cut-off, run by a real shell with a stand-in for Docker."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ktrdr.deployment.commands import docker, lock

# Keeps each container in a file of its name, which holds `running`, `exited` or `stops N`: one that
# was told to stop and does so when it was looked at N times more.
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
exited) echo "$name" ;;
esac ;;
esac
done ;;
start) shift; for name; do [ -e "../broken-$name" ] || echo running >"$name"; done ;;
inspect) [ -e "$2" ] ;;
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
        (self.workdir / lock.RECORDS).mkdir(parents=True)
        self.lock()
        self.env = {**os.environ, "PATH": f"{place}:{os.environ['PATH']}"}

    def lock(self) -> None:
        """Somebody takes the lock; later than what was written before, for any file system."""
        time.sleep(0.02)
        Path(lock.path(str(self.workdir))).write_text("1 note\n")
        time.sleep(0.02)

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
        script = f"set -eu\n{docker.recovery(str(self.workdir), 'p')}\nrecover {seconds}"
        return subprocess.run(["sh", "-c", script], env=self.env, check=False).returncode

    def begin(self) -> None:
        """A script that may be cut off, and is not."""
        script = docker.recover_when_ended(str(self.workdir), "p", "note")
        subprocess.run(["sh", "-c", f"set -eu\n{script}\ntrue"], env=self.env, check=True)


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


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGHUP])
def test_a_script_that_is_ended_in_mid_work_has_its_services_started_afterwards(host, by) -> None:
    """By a process that outlives it, and has the host's lock meanwhile."""
    workdir = str(host.workdir)
    host.has(db="running", grafana="exited")
    script = docker.recover_when_ended(workdir, "p", '{"note"}')
    with subprocess.Popen(
        # What Compose does when the script ends: it stops a container. A shell cannot trap what it
        # was told to ignore, as all that nohup starts is.
        [
            *("env", "--default-signal", "sh", "-c"),
            f"set -eu\n{script}\necho exited >{host.place}/containers/db\necho .; /bin/sleep 1",
        ],
        env=host.env,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b".\n"
        os.kill(process.pid, by)
        assert process.wait(10) == 143
    deadline = time.monotonic() + 15
    while host.containers["db"] != "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    file = lock.path(workdir)
    assert Path(file).read_text().split(" ", 1)[1] == '{"note"}\n'
    subprocess.run(["flock", "-w", "20", file, "true"], check=True)
    assert host.containers == {"db": "running", "grafana": "exited"}, "as before"


def test_a_script_that_ends_by_itself_leaves_nobody_behind(host) -> None:
    host.has(db="exited")
    host.begin()
    assert [call.split()[0] for call in host.calls] == ["ps"]
    assert host.containers == {"db": "exited"}


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


# --------------------------------------------------------------------------------- pinning

PIN = docker.pin("p", "ghcr.io/a/b:tag", "sha256:0123")


def pinned(host: Host, answer: str) -> tuple[int, list[str]]:
    (host.place / "docker").write_text(
        f'#!/bin/sh\necho "$*" >>{host.place}/calls\n'
        f'case "$1" in image) {answer} ;; compose) cat >{host.place}/file ;; esac\n'
    )
    done = subprocess.run(["sh", "-c", f"set -eu\n{PIN}"], env=host.env, check=False)
    return done.returncode, host.calls


def test_an_image_that_is_there_is_only_tagged(host) -> None:
    code, calls = pinned(host, "exit 0")
    assert code == 0
    assert calls == [
        "image inspect ghcr.io/a/b@sha256:0123",
        "tag ghcr.io/a/b@sha256:0123 ghcr.io/a/b:tag",
    ]


def test_an_image_that_is_gone_is_pulled_by_its_digest(host) -> None:
    code, calls = pinned(host, "exit 1")
    assert code == 0
    assert calls[1:] == [
        "compose -p p-pin -f - pull --quiet",
        "tag ghcr.io/a/b@sha256:0123 ghcr.io/a/b:tag",
    ]
    file = (host.place / "file").read_text()
    assert file == 'services: {pinned: {image: "ghcr.io/a/b@sha256:0123"}}\n'
