"""Behaviour that needs no server; the rest is in the integration tests."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from ktrdr.deployment.ssh.session import SshProgram
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import HostUnreachable
from ktrdr.secret import Secret


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
