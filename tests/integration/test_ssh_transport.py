"""Behaviour of the transport over OpenSSH alone, against a real server."""

from __future__ import annotations

import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ktrdr.deployment.scripts.script import render
from ktrdr.deployment.ssh.program import SshProgram
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import HostUnreachable
from ktrdr.secret import Secret
from tests.integration.remote import END, is_running, run, wait_until_ended
from tests.integration.sshd import Sshd
from tests.unit.deployment.shell import write_script


def test_a_large_script_and_a_large_output_pass_whole(ssh: SshTransport) -> None:
    script = "# " + "x" * 300_000 + "\nhead -c 5000000 /dev/zero | tr '\\0' z; echo"
    assert run(ssh, script) == "z" * 5_000_000 + "\n"


def test_every_byte_of_a_script_arrives(ssh: SshTransport) -> None:
    nasty = '"$`\\%#=&;|<>(){}*?!~ \té日本\n'
    assert run(ssh, f"cat <<'END'\n{nasty}END\n") == nasty


def test_secret_settings_of_a_rendered_script_arrive_byte_for_byte(
    ssh: SshTransport, tmp_path: Path
) -> None:
    value = "'\"$`\\%#=&;|<>(){}*?!~ \té日本\n\n"
    script = render(
        write_script(
            tmp_path, 'printf %s "$DB_PASSWORD" | od -An -v -tx1', secrets=("DB_PASSWORD",)
        ),
        {"DB_PASSWORD": Secret(value)},
    )
    result = ssh.run("node", script, timeout_s=20)
    assert bytes.fromhex(result.stdout).decode() == value


def test_a_script_cannot_read_its_own_text(ssh: SshTransport) -> None:
    assert run(ssh, "cat\necho after") == "after\n"


def test_a_script_with_a_syntax_error_does_not_even_run_in_part(
    ssh: SshTransport, tmp_path: Path
) -> None:
    with pytest.raises(HostUnreachable, match="was killed there"):
        ssh.run("node", Secret(f"touch {tmp_path}/begun\nif\n"), timeout_s=20)
    assert not (tmp_path / "begun").exists()
    assert run(ssh, "echo again") == "again\n"


def test_every_exit_code_of_a_script_is_returned(ssh: SshTransport) -> None:
    assert ssh.run("node", Secret("exit 255"), timeout_s=20).exit_code == 255


def test_lines_are_passed_on_while_the_script_still_runs(ssh: SshTransport, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    script = f"echo waiting\nwhile [ ! -e {go_on} ]; do sleep 0.05; done\n{END}"
    result = ssh.run("node", Secret(script), timeout_s=20, on_line=lambda *_: go_on.touch())
    assert result.stdout == "waiting\n"


def test_many_threads_may_use_one_host_and_connections_are_reused(ssh: SshTransport) -> None:
    with ThreadPoolExecutor(3) as pool:
        outputs = list(pool.map(lambda n: run(ssh, f"echo {n}"), range(12)))
    assert outputs == [f"{n}\n" for n in range(12)]
    assert ssh.connections <= 3
    assert ssh.scripts == 12
    before = ssh.connections
    assert [run(ssh, f"echo {n}") for n in range(3)] == ["0\n", "1\n", "2\n"]
    assert ssh.connections == before


def test_a_script_that_comes_while_its_host_is_being_connected_uses_that_connection(
    tmp_path: Path,
) -> None:
    # In the place of ssh, a shell that is here at once: all meet at the same moment.
    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\nexec sh -s\n")
    program.chmod(0o755)
    hosts = [f"node-{number}" for number in range(60)]
    script = Secret(END)
    for _ in range(4):
        with (
            SshTransport(SshProgram(executable=str(program))) as transport,
            ThreadPoolExecutor(len(hosts)) as pool,
        ):
            ahead = [pool.submit(transport.connect, host) for host in hosts]
            ran = [pool.submit(transport.run, host, script, timeout_s=20) for host in hosts]
            assert {each.result() for each in ahead} == {None}
            assert {each.result().exit_code for each in ran} == {0}
            assert transport.connections == len(hosts)


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


def test_a_script_may_print_the_words_of_sshs_disconnect_message(ssh: SshTransport) -> None:
    words = "Connection to db closed by remote host.\n"
    assert run(ssh, f"echo '{words.strip()}'") == words
    assert run(ssh, f"echo '{words.strip()}'; sleep 0.3; echo on") == f"{words}on\n"


def test_nothing_is_left_of_a_closed_transport(sshd: Sshd, tmp_path: Path) -> None:
    before = set(Path(tempfile.gettempdir()).glob("ktrdr-*"))
    with SshTransport(SshProgram(config=sshd.client_config())) as transport:
        shell = int(run(transport, "echo $$"))
        server = int(run(transport, "echo $PPID"))
        assert is_running(server)
        assert set(Path(tempfile.gettempdir()).glob("ktrdr-*")) - before
    wait_until_ended(server)
    wait_until_ended(shell)


def test_the_users_settings_for_manual_work_do_not_disturb(sshd: Sshd, tmp_path: Path) -> None:
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
