"""No process of a script outlives the script or its caller."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ktrdr.deployment.ssh.session import SshProgram
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import HostUnreachable, Interrupted
from ktrdr.secret import Secret
from tests.integration.remote import END, run, wait_until_ended
from tests.integration.sshd import Sshd, wait_until


def test_the_remote_process_ends_when_its_time_is_up(ssh: SshTransport) -> None:
    pids: list[int] = []
    with pytest.raises(HostUnreachable, match="timed out after"):
        ssh.run(
            "node",
            Secret("sleep 300 &\necho $!\nwait\n" + END),
            timeout_s=0.5,
            on_line=lambda _, line: pids.append(int(line)),
        )
    wait_until_ended(pids[0])


def test_the_script_may_clean_up_when_its_time_is_up(ssh: SshTransport, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    script = f"trap 'rm {lock}' EXIT\ntrap 'exit 1' TERM\ntouch {lock}\nsleep 300\n{END}"
    with pytest.raises(HostUnreachable, match="timed out after"):
        ssh.run("node", Secret(script), timeout_s=0.5)
    assert not lock.exists()


def test_a_process_that_ignores_sigterm_is_killed(ssh: SshTransport) -> None:
    pids: list[int] = []
    with pytest.raises(HostUnreachable, match="timed out after"):
        ssh.run(
            "node",
            Secret("trap '' TERM\necho $$\nsleep 300\n" + END),
            timeout_s=0.3,
            on_line=lambda _, line: pids.append(int(line)),
        )
    wait_until_ended(pids[0])


def test_a_connection_cut_while_a_script_runs_is_reported_and_ends_the_script(
    ssh: SshTransport,
) -> None:
    pids: list[int] = []

    def cut(_: str, line: str) -> None:
        server, child = map(int, line.split())
        pids.append(child)
        os.kill(server, signal.SIGKILL)

    with pytest.raises(HostUnreachable, match="lost while a script ran"):
        ssh.run(
            "node",
            Secret("sleep 300 &\necho $PPID $!\nwait\n" + END),
            timeout_s=20,
            on_line=cut,
        )
    wait_until_ended(pids[0])
    assert run(ssh, "echo again") == "again\n"
    assert ssh.connections == 2


def test_a_host_that_stops_answering_while_a_script_runs_is_noticed(sshd: Sshd) -> None:
    stopped: list[int] = []

    def stop(_: str, line: str) -> None:
        stopped.append(int(line))
        os.kill(stopped[0], signal.SIGSTOP)

    program = SshProgram(config=sshd.client_config(), alive_interval_s=1)
    try:
        with (
            SshTransport(program) as ssh,
            pytest.raises(HostUnreachable, match="the host stopped answering"),
        ):
            ssh.run("node", Secret("echo $PPID\nsleep 300\n" + END), timeout_s=30, on_line=stop)
    finally:
        os.kill(stopped[0], signal.SIGKILL)


def test_a_shell_killed_on_the_host_is_distinguished_from_a_lost_connection(
    ssh: SshTransport,
) -> None:
    with pytest.raises(HostUnreachable, match="was killed there"):
        run(ssh, "kill -KILL $$")


def test_an_ssh_killed_here_is_distinguished_from_a_shell_killed_on_the_host(
    ssh: SshTransport,
) -> None:
    def kill(_: str, line: str) -> None:
        mine = {pid: Path(f"/proc/{pid}/comm").read_text() for pid in children(os.getpid())}
        (client,) = [pid for pid, name in mine.items() if name == "ssh\n"]
        os.kill(client, signal.SIGKILL)

    with pytest.raises(HostUnreachable, match="script ran: ssh was ended here by signal 9"):
        ssh.run("node", Secret("echo on\nsleep 300\n" + END), timeout_s=20, on_line=kill)


def test_closing_ends_the_scripts_of_other_threads(sshd: Sshd) -> None:
    ssh = SshTransport(SshProgram(config=sshd.client_config()))
    pids: list[int] = []
    started = threading.Event()

    def note(_: str, line: str) -> None:
        pids.append(int(line))
        started.set()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(
            ssh.run,
            "node",
            Secret("sleep 300 &\necho $!\nwait\n" + END),
            timeout_s=60,
            on_line=note,
        )
        assert started.wait(20)
        ssh.close()
        with pytest.raises(Interrupted):
            future.result(20)
    wait_until_ended(pids[0])


CALLER = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from ktrdr.deployment.ssh.session import SshProgram
    from ktrdr.deployment.ssh.transport import SshTransport
    from ktrdr.secret import Secret

    with SshTransport(SshProgram(config=Path(sys.argv[1]))) as transport:
        script = Secret("sleep 300 & echo $PPID $!; wait")
        try:
            transport.run("node", script, timeout_s=60, on_line=lambda _, s: print(s, flush=True))
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
)


@pytest.fixture
def caller(sshd: Sshd) -> Iterator[subprocess.Popen[str]]:
    """Provide a process that runs a long script on a host."""
    # One that is killed leaves its directory behind; pytest's own would be too long for a socket.
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(
            [sys.executable, "-c", CALLER, sshd.client_config()],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": directory},
        ) as process,
    ):
        yield process
        process.kill()


def children(pid: int) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(child) for child in listed.stdout.split()]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_remote_processes_end_with_the_caller_however_it_ends(
    caller: subprocess.Popen[str], kind: signal.Signals
) -> None:
    assert caller.stdout is not None
    server, remote = map(int, caller.stdout.readline().split())
    clients = children(caller.pid)
    assert len(clients) == 1
    caller.send_signal(kind)
    for pid in (remote, server, *clients):
        wait_until_ended(pid)
    if kind is signal.SIGINT:
        assert caller.stdout.read() == "interrupted\n"


def test_an_interrupt_ends_running_scripts_and_later_ones_run(
    ssh: SshTransport, tmp_path: Path
) -> None:
    heard: list[str] = []
    waiting = Secret(f"trap 'echo ended > {tmp_path}/trace; exit 1' TERM\necho on\nsleep 60 & wait")

    def listen(_stream: str, line: str) -> None:
        heard.append(line)

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(ssh.run, "node", waiting, timeout_s=50, on_line=listen)
        wait_until(lambda: heard == ["on"], "it runs")
        ssh.interrupt()
        with pytest.raises(Interrupted):
            ended.result(20)
    assert (tmp_path / "trace").read_text() == "ended\n"
    assert run(ssh, "echo later") == "later\n"
    assert ssh.connections == 1


def test_all_threads_that_wait_for_a_host_share_one_failure(tmp_path: Path) -> None:
    attempts = tmp_path / "attempts"
    slow = tmp_path / "ssh"
    slow.write_text(
        f'#!/bin/sh\n[ "$1" != -V ] || exit\necho >>{attempts}\nsleep 1\n'
        "echo 'Connection refused' >&2\nexit 255\n"
    )
    slow.chmod(0o755)
    with (
        SshTransport(SshProgram(executable=str(slow))) as transport,
        ThreadPoolExecutor(4) as pool,
    ):
        tried = [pool.submit(run, transport, "true") for _ in range(4)]
        for each in tried:
            with pytest.raises(HostUnreachable, match="refused"):
                each.result()
        assert attempts.read_text() == "\n"
        with pytest.raises(HostUnreachable):
            run(transport, "true")
        assert attempts.read_text() == "\n\n", "a later script tries again"
