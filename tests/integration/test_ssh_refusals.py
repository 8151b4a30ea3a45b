"""Error messages of failed connections, from a real ssh."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ktrdr.deployment.scripts.script import SENTINEL
from ktrdr.deployment.ssh.session import SshProgram
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import ConfigurationError, HostUnreachable
from ktrdr.secret import Secret
from tests.integration.sshd import Sshd, free_port, make_key


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Provide a port that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closing_port() -> Iterator[int]:
    """Provide a port that closes every connection immediately."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def close_all() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=close_all)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def refusal(config: Path, host: str = "node", **program: object) -> HostUnreachable:
    settings = {"connect_timeout_s": 1, "config": config} | program
    with (
        SshTransport(SshProgram(**settings)) as ssh,  # type: ignore[arg-type]  # checked at run time
        pytest.raises(HostUnreachable) as caught,
    ):
        ssh.run(host, Secret(f"echo {SENTINEL}\n"), timeout_s=20)
    assert caught.value.hint
    assert ssh.connections == 0
    return caught.value


def test_an_unknown_name(sshd: Sshd) -> None:
    config = sshd.client_config("names", HostName="")
    assert str(refusal(config, "no-such.invalid")) == "the name no-such.invalid cannot be resolved"


def test_a_closed_port(sshd: Sshd) -> None:
    config = sshd.client_config("port", Port=str(free_port()))
    assert str(refusal(config)) == "node refused the connection"


def test_the_reason_is_known_even_if_the_user_keeps_ssh_quiet(sshd: Sshd) -> None:
    config = sshd.client_config("quiet", Port=str(free_port()), LogLevel="QUIET")
    assert str(refusal(config)) == "node refused the connection"


def test_a_host_that_never_answers(sshd: Sshd, silent_port: int) -> None:
    started = time.monotonic()
    config = sshd.client_config("silent", Port=str(silent_port))
    assert str(refusal(config)) == "node did not answer in time"
    assert time.monotonic() - started < 8


def test_a_port_that_closes_the_connection(sshd: Sshd, closing_port: int) -> None:
    config = sshd.client_config("closing", Port=str(closing_port))
    assert str(refusal(config)) == "node closed the connection before the login"


def test_a_host_key_that_has_changed(sshd: Sshd, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other").with_suffix(".pub").read_text().rsplit(" ", 1)[0]
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{sshd.port} {other}\n")
    error = refusal(sshd.client_config("changed", UserKnownHostsFile=str(known)))
    assert str(error) == f"the host key of node has changed (known from {known}, line 1)"
    assert error.hint is not None
    assert f"ssh-keygen -R '[127.0.0.1]:{sshd.port}' -f {known}" in error.hint


def test_a_host_key_that_is_not_known(sshd: Sshd, tmp_path: Path) -> None:
    config = sshd.client_config("unknown", UserKnownHostsFile=str(tmp_path / "none"))
    assert str(refusal(config)) == "the host key of node is not known to this machine"


def test_a_key_that_the_host_refuses(sshd: Sshd, tmp_path: Path) -> None:
    config = sshd.client_config("stranger", IdentityFile=str(make_key(tmp_path / "stranger")))
    assert str(refusal(config)) == "node refused this user's key"


def test_a_private_key_that_others_can_read(sshd: Sshd, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(sshd.user_key.read_bytes())
    key.chmod(0o644)
    error = refusal(sshd.client_config("open", IdentityFile=str(key)))
    assert "other users can read" in str(error)


def test_a_user_without_a_shell(tmp_path: Path) -> None:
    server = Sshd(tmp_path)
    server.start("ForceCommand echo This account is not available.; exit 1")
    try:
        error = refusal(server.client_config())
    finally:
        server.stop()
    assert "does not run commands" in str(error)
    assert "This account is not available" in str(error)


def test_a_missing_ssh(sshd: Sshd) -> None:
    error = refusal(sshd.client_config(), executable="ssh-that-is-not-there")
    assert "ssh-that-is-not-there is not installed" in str(error)


def test_a_missing_configuration_file(tmp_path: Path) -> None:
    with (
        SshTransport(SshProgram(config=tmp_path / "none")) as ssh,
        pytest.raises(ConfigurationError, match=r"cannot read its configuration file .*none"),
    ):
        ssh.run("node", Secret(f"echo {SENTINEL}\n"), timeout_s=20)


def test_a_configuration_file_with_a_mistake(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host *\n  Prot 22\n")
    with (
        SshTransport(SshProgram(config=config)) as ssh,
        pytest.raises(ConfigurationError, match="does not understand its configuration"),
    ):
        ssh.run("node", Secret(f"echo {SENTINEL}\n"), timeout_s=20)


def test_only_a_host_that_nothing_answers_for_is_off(
    sshd: Sshd, silent_port: int, closing_port: int, tmp_path: Path
) -> None:
    """Only such a host may be skipped by a deploy."""
    stranger = str(make_key(tmp_path / "stranger"))
    off = {
        "closed": {"Port": str(free_port())},
        "silent": {"Port": str(silent_port)},
        "unknown name": {"HostName": "no-such.invalid"},
        "behind a jump host": {"ProxyCommand": _jump(sshd, free_port())},
    }
    on = {
        "closing": {"Port": str(closing_port)},
        "unknown key": {"UserKnownHostsFile": str(tmp_path / "none")},
        "refused key": {"IdentityFile": stranger},
    }
    for name, options in (off | on).items():
        error = refusal(sshd.client_config(name.replace(" ", "-"), **options))
        assert error.is_off == (name in off), f"{name}: {error}"


def _jump(sshd: Sshd, port: int) -> str:
    """Return the command with which ssh reaches a port behind a jump host."""
    return f"ssh -F {sshd.client_config('jump-host')} -W 127.0.0.1:{port} node"
