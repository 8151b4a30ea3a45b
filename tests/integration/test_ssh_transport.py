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
from typing import Protocol

import pytest

from ktrdr.deployment.commands.script import SENTINEL, Script, render
from ktrdr.deployment.transport.connection import SOCKET_NAME, SshProgram
from ktrdr.deployment.transport.interface import Transport
from ktrdr.deployment.transport.recording import Answer, RecordingTransport
from ktrdr.deployment.transport.ssh import SshTransport
from ktrdr.errors import HostUnreachable, Interrupted
from ktrdr.secret import Scrubber, Secret
from tests.integration.sshd import Sshd, free_port, wait_until

END = f"echo {SENTINEL}\n"


@pytest.fixture
def ssh(sshd: Sshd) -> Iterator[SshTransport]:
    with SshTransport(SshProgram(config=sshd.client_config())) as transport:
        yield transport


def run(transport: Transport, script: str, timeout_s: float = 20) -> str:
    return transport.run("node", Secret(script + "\n" + END), timeout_s=timeout_s).stdout


def is_running(pid: int) -> bool:
    """Whether the process lives; one that waits to be reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def wait_until_ended(pid: int) -> None:
    wait_until(lambda: not is_running(pid), f"process {pid} has ended")


# ---------------------------------------------------------------- the contract of both transports


class Subject(Protocol):
    """A transport, told beforehand what the next script will do."""

    def __call__(self, answer: Answer, *, scrubber: Scrubber | None = None) -> Transport: ...


@pytest.fixture(params=["ssh", "recording"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    made: list[Transport] = []

    def make(answer: Answer, *, scrubber: Scrubber | None = None) -> Transport:
        transport: Transport
        if request.param == "ssh":
            # An answer with an error stands for a host that does not exist.
            server: Sshd = request.getfixturevalue("sshd")
            changes = {"Port": str(free_port())} if answer.error else {}
            config = server.client_config("contract", **changes)
            transport = SshTransport(SshProgram(config=config), scrubber=scrubber)
        else:
            transport = RecordingTransport(scrubber=scrubber)
            transport.answer(answer)
        made.append(transport)
        return transport

    yield make
    for transport in made:
        transport.close()


def test_a_script_that_came_to_its_end_gives_both_outputs_apart(subject: Subject) -> None:
    transport = subject(Answer(stdout="a\n\nb\n", stderr="c\n"))
    script = Secret("printf 'a\\n\\nb\\n'; echo c >&2\n" + END)
    result = transport.run("node", script, timeout_s=20)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "a\n\nb\n", "c\n")


def test_a_script_that_fails_gives_its_own_exit_code(subject: Subject) -> None:
    transport = subject(Answer(exit_code=3, stdout="a\n"))
    result = transport.run("node", Secret("echo a; exit 3"), timeout_s=20)
    assert (result.exit_code, result.stdout) == (3, "a\n")


def test_output_without_a_line_end_is_kept_apart_from_the_last_line(subject: Subject) -> None:
    transport = subject(Answer(stdout="half"))
    assert transport.run("node", Secret("printf half\n" + END), timeout_s=20).stdout == "half"


def test_lines_are_passed_on_in_order_and_without_the_last_one(subject: Subject) -> None:
    seen: list[tuple[str, str]] = []
    transport = subject(Answer(stdout="a\nb\n", stderr="c\n"))
    transport.run(
        "node",
        Secret("echo a; echo b; echo c >&2\n" + END),
        timeout_s=20,
        on_line=lambda stream, line: seen.append((stream, line)),
    )
    assert [line for stream, line in seen if stream == "stdout"] == ["a", "b"]
    assert [line for stream, line in seen if stream == "stderr"] == ["c"]


def test_secrets_are_replaced_in_results_and_lines(subject: Subject) -> None:
    seen: list[str] = []
    transport = subject(
        Answer(exit_code=1, stdout="is hunter22\n", stderr="aHVudGVyMjI=\n"),
        scrubber=Scrubber([Secret("hunter22")]),
    )
    script = Secret("echo is hunter22; printf hunter22 | base64 >&2; exit 1")
    result = transport.run("node", script, timeout_s=20, on_line=lambda _, line: seen.append(line))
    assert (result.stdout, result.stderr) == ("is •••\n", "•••\n")
    assert sorted(seen) == ["is •••", "•••"]


def test_a_script_that_ends_well_before_its_last_line_counts_as_lost(subject: Subject) -> None:
    transport = subject(Answer(complete=False))
    with pytest.raises(HostUnreachable, match="without its last line"):
        transport.run("node", Secret("exit 0\n" + END), timeout_s=20)


def test_a_script_that_takes_too_long_is_ended(subject: Subject) -> None:
    transport = subject(Answer(duration_s=30))
    with pytest.raises(HostUnreachable, match=r"took longer than 0\.3 s"):
        transport.run("node", Secret("sleep 30\n" + END), timeout_s=0.3)


def test_a_host_that_cannot_be_reached_is_an_error_of_its_own(subject: Subject) -> None:
    transport = subject(Answer(error=HostUnreachable("node refused the connection")))
    with pytest.raises(HostUnreachable, match="node refused the connection"):
        transport.run("node", Secret(END), timeout_s=20)


def test_connections_and_scripts_are_counted(subject: Subject) -> None:
    transport = subject(Answer())
    for host in ("node", "node", "other"):
        transport.run(host, Secret(END), timeout_s=20)
    assert isinstance(transport, SshTransport | RecordingTransport)
    assert (transport.connections, transport.scripts) == (2, 3)


def test_a_closed_transport_runs_nothing(subject: Subject) -> None:
    transport = subject(Answer())
    transport.close()
    with pytest.raises(Interrupted):
        transport.run("node", Secret(END), timeout_s=20)


# ---------------------------------------------------------------- what only ssh can show


def test_a_large_script_and_a_large_output_pass_whole(ssh: SshTransport) -> None:
    script = "# " + "x" * 300_000 + "\nhead -c 5000000 /dev/zero | tr '\\0' z; echo"
    assert run(ssh, script) == "z" * 5_000_000 + "\n"


def test_every_byte_of_a_script_arrives(ssh: SshTransport) -> None:
    nasty = '"$`\\%#=&;|<>(){}*?!~ \té日本\n'
    assert run(ssh, f"cat <<'END'\n{nasty}END\n") == nasty


def test_secret_settings_of_a_rendered_script_arrive_byte_for_byte(ssh: SshTransport) -> None:
    value = "'\"$`\\%#=&;|<>(){}*?!~ \té日本\n\n"
    script = render(
        Script('printf %s "$DB_PASSWORD" | od -An -v -tx1', secrets=("DB_PASSWORD",)),
        {"DB_PASSWORD": Secret(value)},
    )
    result = ssh.run("node", script, timeout_s=20)
    assert bytes.fromhex(result.stdout).decode() == value


def test_a_script_cannot_read_its_own_text(ssh: SshTransport) -> None:
    assert run(ssh, "cat\necho after") == "after\n"


def test_a_script_with_a_syntax_error_runs_not_even_in_part(ssh: SshTransport) -> None:
    result = ssh.run("node", Secret("echo begun\nif\n"), timeout_s=20)
    assert result.exit_code != 0
    assert result.stdout == ""
    assert result.stderr


def test_exit_code_255_of_a_script_is_not_taken_for_a_fault_of_ssh(ssh: SshTransport) -> None:
    assert ssh.run("node", Secret("exit 255"), timeout_s=20).exit_code == 254


def test_lines_come_while_the_script_still_runs(ssh: SshTransport, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    script = f"echo waiting\nwhile [ ! -e {go_on} ]; do sleep 0.05; done\n{END}"
    result = ssh.run("node", Secret(script), timeout_s=20, on_line=lambda *_: go_on.touch())
    assert result.stdout == "waiting\n"


def test_many_threads_share_one_connection_to_a_host(ssh: SshTransport) -> None:
    with ThreadPoolExecutor(6) as pool:
        outputs = list(pool.map(lambda n: run(ssh, f"echo {n}"), range(12)))
    assert outputs == [f"{n}\n" for n in range(12)]
    assert (ssh.connections, ssh.scripts) == (1, 12)


def test_no_argument_list_on_either_side_shows_a_secret(ssh: SshTransport) -> None:
    password = "t0p-s3cret-password"
    seen: list[bytes] = []
    sampled = threading.Event()

    def sample(*_: str) -> None:
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.append(file.read_bytes())
            except OSError:
                continue
        sampled.set()

    script = f"export PASSWORD='{password}'\necho sample\nsleep 0.3\n{END}"
    ssh.run("node", Secret(script), timeout_s=20, on_line=sample)
    assert sampled.is_set()
    assert any(b"exec sh -s" in line for line in seen)
    assert not [line for line in seen if password.encode() in line]


def test_nothing_is_left_of_a_closed_transport(sshd: Sshd, tmp_path: Path) -> None:
    before = set(Path(tempfile.gettempdir()).glob("ktrdr-*"))
    with SshTransport(SshProgram(config=sshd.client_config())) as transport:
        shell = int(run(transport, "echo $$"))
        server = int(run(transport, "echo $PPID"))
        assert is_running(server)
        assert set(Path(tempfile.gettempdir()).glob("ktrdr-*")) - before
    wait_until_ended(server)
    assert not is_running(shell)


def test_what_the_user_configured_for_work_by_hand_does_not_disturb(
    sshd: Sshd, tmp_path: Path
) -> None:
    config = sshd.client_config(
        "by_hand",
        ControlMaster="auto",
        ControlPersist="yes",
        ControlPath=str(tmp_path / "%C"),
        RemoteCommand="tmux attach",
        RequestTTY="yes",
        LocalForward=f"127.0.0.1:{sshd.port} 127.0.0.1:1",
        ExitOnForwardFailure="yes",
        LogLevel="QUIET",
    )
    with SshTransport(SshProgram(config=config)) as ssh:
        assert run(ssh, "echo fine") == "fine\n"
        server = int(run(ssh, "echo $PPID"))
    wait_until_ended(server)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- a script's end


def test_the_remote_process_ends_when_its_time_is_up(ssh: SshTransport) -> None:
    pids: list[int] = []
    with pytest.raises(HostUnreachable, match="took longer"):
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
    with pytest.raises(HostUnreachable, match="took longer"):
        ssh.run("node", Secret(script), timeout_s=0.5)
    assert not lock.exists()


def test_what_ignores_the_request_to_end_is_killed(ssh: SshTransport) -> None:
    pids: list[int] = []
    with pytest.raises(HostUnreachable, match="took longer"):
        ssh.run(
            "node",
            Secret("trap '' TERM\necho $$\nsleep 300\n" + END),
            timeout_s=0.3,
            on_line=lambda _, line: pids.append(int(line)),
        )
    wait_until_ended(pids[0])


def test_a_connection_cut_in_mid_script_is_said_and_ends_the_script(ssh: SshTransport) -> None:
    pids: list[int] = []

    def cut(_: str, line: str) -> None:
        server, child = map(int, line.split())
        pids.append(child)
        os.kill(server, signal.SIGKILL)

    with pytest.raises(HostUnreachable, match="lost in mid-script"):
        ssh.run(
            "node",
            Secret("sleep 300 &\necho $PPID $!\nwait\n" + END),
            timeout_s=20,
            on_line=cut,
        )
    wait_until_ended(pids[0])
    assert run(ssh, "echo again") == "again\n"
    assert ssh.connections == 2


def test_a_host_that_stops_answering_in_mid_script_is_noticed(sshd: Sshd) -> None:
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


def test_no_second_connection_is_opened_behind_the_first_ones_back(ssh: SshTransport) -> None:
    run(ssh, "true")
    (ssh._connections["node"].directory / SOCKET_NAME).unlink()
    with pytest.raises(HostUnreachable, match="connection to node was lost"):
        run(ssh, "true")


def test_a_shell_killed_on_the_host_is_told_from_a_lost_connection(ssh: SshTransport) -> None:
    with pytest.raises(HostUnreachable, match="was killed there"):
        run(ssh, "kill -KILL $$")


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
    from ktrdr.deployment.transport.connection import SshProgram
    from ktrdr.deployment.transport.ssh import SshTransport
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
    """A process that runs a long script on a host, and has said so."""
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
def test_however_the_caller_ends_nothing_runs_on(
    caller: subprocess.Popen[str], kind: signal.Signals
) -> None:
    assert caller.stdout is not None
    server, remote = map(int, caller.stdout.readline().split())
    clients = children(caller.pid)
    assert len(clients) == 2
    caller.send_signal(kind)
    for pid in (remote, server, *clients):
        wait_until_ended(pid)
    if kind is signal.SIGINT:
        assert caller.stdout.read() == "interrupted\n"


# ------------------------------------------------------------------------------- interrupting


def test_an_interrupt_ends_what_runs_and_lets_what_stays_and_what_comes_later_run(
    ssh: SshTransport, tmp_path: Path
) -> None:
    heard: list[str] = []
    waiting = Secret(f"trap 'echo ended > {tmp_path}/trace; exit 1' TERM\necho on\nsleep 60 & wait")
    staying = Secret(f"echo stays\nuntil [ -e {tmp_path}/go ]; do sleep 0.05; done\n{END}")

    def listen(_stream: str, line: str) -> None:
        heard.append(line)

    with ThreadPoolExecutor(2) as pool:
        ended = pool.submit(ssh.run, "node", waiting, timeout_s=50, on_line=listen)
        stays = pool.submit(ssh.run, "node", staying, timeout_s=50, on_line=listen, stays=True)
        wait_until(lambda: sorted(heard) == ["on", "stays"], "both run")
        ssh.interrupt()
        with pytest.raises(Interrupted):
            ended.result(20)
        assert (tmp_path / "trace").read_text() == "ended\n"
        assert run(ssh, f"touch {tmp_path}/go; echo later") == "later\n"
        assert stays.result(20).stdout == "stays\n"


def test_all_who_wait_for_a_host_share_one_failure(tmp_path: Path) -> None:
    attempts = tmp_path / "attempts"
    slow = tmp_path / "ssh"
    slow.write_text(
        f"#!/bin/sh\necho >>{attempts}\nsleep 1\necho 'Connection refused' >&2\nexit 255\n"
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
        assert attempts.read_text() == "\n\n", "whoever comes later tries anew"
