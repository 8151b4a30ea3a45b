"""Behaviour that needs no server; the rest is in the integration tests."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from ktrdr.deployment.ssh import session
from ktrdr.deployment.ssh.session import SshProgram
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import HostUnreachable
from ktrdr.secret import Secret


def program(tmp_path: Path, *lines: str) -> SshProgram:
    """Return a program in place of ssh: a shell script."""
    executable = tmp_path / "ssh"
    executable.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    executable.chmod(0o755)
    return SshProgram(str(executable), connect_timeout_s=1)


def failure(ssh_program: SshProgram) -> HostUnreachable:
    with SshTransport(ssh_program) as ssh, pytest.raises(HostUnreachable) as caught:
        ssh.run("node", Secret("true"), timeout_s=5)
    return caught.value


ALWAYS = {"PermitLocalCommand=no", "ForwardX11=no", "Tunnel=no", "RemoteCommand=none"}
SINCE_8_7 = {"SessionType=default", "StdinNull=no", "ForkAfterAuthentication=no"}


@pytest.mark.parametrize(
    ("version", "known", "unknown"),
    [
        ("OpenSSH_10.2p1 Debian-3, OpenSSL 3.5.4", {*SINCE_8_7, "ChannelTimeout=none"}, set()),
        ("OpenSSH_9.9p2, LibreSSL 3.3.6", {*SINCE_8_7, "ChannelTimeout=none"}, set()),
        ("OpenSSH_for_Windows_9.5p1, LibreSSL 3.8.2", SINCE_8_7, {"ChannelTimeout=none"}),
        ("OpenSSH_8.4p1 Debian-5+deb11u3, OpenSSL 1.1.1w", set(), SINCE_8_7),
        ("Dropbear v2024.86", set(), SINCE_8_7),
        ("", set(), SINCE_8_7),
    ],
)
def test_ssh_gets_only_the_options_that_its_version_knows(
    tmp_path: Path, version: str, known: set[str], unknown: set[str]
) -> None:
    failure(
        program(
            tmp_path,
            f"[ \"$1\" != -V ] || {{ echo '{version}' >&2; exit; }}",
            f'printf "%s\\n" "$@" >{tmp_path}/arguments',
            "exit 255",
        )
    )
    arguments = set((tmp_path / "arguments").read_text().splitlines())
    assert arguments >= {*ALWAYS, *known}
    assert arguments.isdisjoint(unknown)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_PROBE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(session, "_CONNECT_ATTEMPTS", 0.3)


ANSWERS_V = '[ "$1" != -V ] || exit 0'


@pytest.mark.usefixtures("short_waits")
def test_a_login_that_waits_shows_what_was_said_even_without_a_log(tmp_path: Path) -> None:
    error = failure(program(tmp_path, ANSWERS_V, "echo 'visit https://a/0' >&2", "exec sleep 60"))
    assert error.message == "the login on node waits for something; it said: visit https://a/0"


@pytest.mark.parametrize("shell", ["fish", "zsh", "tcsh"])
def test_another_shell_is_recognised_even_without_a_log(tmp_path: Path, shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed here")
    error = failure(program(tmp_path, f"exec {shell}"))
    assert f"on node starts {shell}, which is not a POSIX shell" in error.message


@pytest.mark.usefixtures("short_waits")
def test_a_connection_that_never_stood_is_a_host_that_does_not_answer(tmp_path: Path) -> None:
    error = failure(program(tmp_path, ANSWERS_V, "exec sleep 60"))
    assert error.message == "node did not answer in time"


@pytest.fixture
def stand_in(tmp_path: Path) -> SshProgram:
    """Provide an `ssh` that records its arguments and fails."""
    executable = tmp_path / "ssh"
    executable.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/arguments\nexit 255\n')
    executable.chmod(0o755)
    return SshProgram(str(executable), config=Path("/some/config"), user="deployer")


def test_ssh_never_prompts_and_soon_gives_up(stand_in: SshProgram, tmp_path: Path) -> None:
    with SshTransport(stand_in) as ssh, pytest.raises(HostUnreachable):
        ssh.run("-oProxyCommand=evil", Secret("echo hunter22"), timeout_s=5)
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[:6] == ["-T", "-F", "/some/config", "-l", "deployer", "-o"]
    assert {"BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5"} <= set(arguments)
    # A host that looks like an option is not one, and the script stands nowhere.
    assert arguments[-3:] == ["--", "-oProxyCommand=evil", "exec sh -s"]
    assert "hunter22" not in "".join(arguments)


def test_an_ssh_that_ends_immediately_is_a_failed_connection(
    monkeypatch: pytest.MonkeyPatch, stand_in: SshProgram
) -> None:
    start = SshProgram.start

    def start_and_end(self: SshProgram, *arguments: Any, **more: Any) -> Any:
        process = start(self, *arguments, **more)
        process.wait()
        return process

    monkeypatch.setattr(SshProgram, "start", start_and_end)
    with SshTransport(stand_in) as ssh, pytest.raises(HostUnreachable, match="could not connect"):
        ssh.run("node", Secret("x"), timeout_s=5)


def test_an_unused_transport_leaves_no_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    SshTransport().close()
    assert not list(tmp_path.iterdir())
