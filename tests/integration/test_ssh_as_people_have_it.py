"""Logins, shells and ssh configurations as people have them, with a real ssh and a real sshd."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ktrdr.deployment.execute import attach_command
from ktrdr.deployment.ssh.session import SshProgram
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import HostUnreachable
from ktrdr.secret import Secret
from tests.integration.remote import run
from tests.integration.sshd import Sshd, make_key
from tests.unit.deployment.sample_hosts import CORE

USER = pwd.getpwuid(os.getuid())
WORDS = "set -- $(printf '%s\\n' one two); echo \"$# words\""

Start = Callable[..., Sshd]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a server with further lines of configuration."""
    started: list[Sshd] = []

    def start(*settings: str, environment: dict[str, str] | None = None) -> Sshd:
        started.append(Sshd(tmp_path))
        started[0].start(*settings, environment=environment)
        return started[0]

    yield start
    for each in started:
        each.stop()


def need(shell: str) -> str:
    """Return the path of a shell, or skip the test."""
    if path := shutil.which(shell):
        return path
    pytest.skip(f"{shell} is not installed here")


def failure(config: Path, script: str = "true", *, timeout_s: int = 1) -> HostUnreachable:
    program = SshProgram(config=config, connect_timeout_s=timeout_s)
    with SshTransport(program) as ssh, pytest.raises(HostUnreachable) as caught:
        run(ssh, script)
    assert caught.value.hint
    return caught.value


# ---- what ssh logs, and why a session ended


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"UserKnownHostsFile": "/dev/null", "StrictHostKeyChecking": "no"},
        {"VisualHostKey": "yes", "LogLevel": "DEBUG3"},
        {"ForwardX11": "yes", "LogVerbose": "*:*:*"},
    ],
    ids=lambda changes: "-".join(changes) or "quiet",
)
def test_a_shell_that_is_killed_on_its_host_is_recognised_whatever_ssh_logs(
    sshd: Sshd, changes: dict[str, str]
) -> None:
    error = failure(sshd.client_config("logs", **changes), "kill -KILL 0", timeout_s=10)

    assert error.message == "the script on node was killed there before it finished"


CHATTER = """\
** WARNING: connection is not using a post-quantum key exchange algorithm.
** This session may be vulnerable to "store now, decrypt later" attacks.
** The server may need to be upgraded. See https://openssh.com/pq.html
The server has updated its host keys.
These changes were verified by the server's existing trusted key.
Learned new hostkey: ED25519 SHA256:0123
hostfile_replace_entries failed for /home/op/.ssh/known_hosts: Permission denied
connect_to localhost port 5432: failed.
channel 3: open failed: connect failed: Connection refused
X11 forwarding request failed on channel 0
Warning: remote port forwarding failed for listen port 8080
Allocated port 38000 for remote forward to localhost:22
"""
# As an earlier attempt to connect says, for example that of a ProxyCommand with several gateways.
EARLIER_LOSS = "kex_exchange_identification: Connection closed by remote host\n"


@pytest.mark.parametrize("delay", ["0", "1"], ids=["while it connects", "after the login"])
def test_what_ssh_logs_is_never_taken_for_the_cause(sshd: Sshd, tmp_path: Path, delay: str) -> None:
    talking = tmp_path / "ssh"
    (tmp_path / "words").write_text(CHATTER if delay == "1" else CHATTER + EARLIER_LOSS)
    talking.write_text(
        "#!/bin/sh\nlog=/dev/null last=\n"
        'for word; do [ "$last" != -E ] || log=$word; last=$word; done\n'
        f'(sleep {delay}; cat {tmp_path}/words >>"$log") &\n[ {delay} = 1 ] || wait\n'
        'exec ssh "$@"\n'
    )
    talking.chmod(0o755)
    program = SshProgram(str(talking), config=sshd.client_config("talks"))

    with SshTransport(program) as ssh:
        result, session = ssh.acquire("node", Secret("return 0"), timeout_s=20)
        assert result.exit_code == 0
        time.sleep(float(delay) + 0.2)
        with pytest.raises(HostUnreachable, match="was killed there"):
            run(ssh, "kill -KILL 0")
        assert session.was_broken, "the lock is lost, and not the connection"


# ---- logins that wait


def held_login(server: Start, directory: Path, *settings: str) -> Path:
    """Return the configuration of a login that the server neither accepts nor refuses."""
    # The server asks this command about a key that it does not know.
    holding = ("AuthorizedKeysCommand /bin/sleep 60", "AuthorizedKeysCommandUser root")
    other = make_key(directory / "unknown_key")
    return server(*holding, *settings).client_config(IdentityFile=str(other))


@pytest.mark.skipif(os.geteuid() != 0, reason="sshd runs this command only as root")
def test_a_login_that_waits_shows_what_the_host_said(server: Start, tmp_path: Path) -> None:
    banner = tmp_path / "banner"
    url = "https://login.example/a/0123456789"
    banner.write_text(
        f"{'Private property. ' * 40}\n\n# Tailscale SSH requires an additional check.\r\n"
        f"# To authenticate, visit: {url}\n\x1b[0m\n"
    )
    started = time.monotonic()

    error = failure(held_login(server, tmp_path, f"Banner {banner}"))

    assert time.monotonic() - started < 8
    assert error.message.startswith("the login on node waits for something; it said: ")
    assert f"requires an additional check. # To authenticate, visit: {url}" in error.message
    assert len(error.message) < 500
    assert error.message.isprintable()


@pytest.mark.skipif(os.geteuid() != 0, reason="sshd runs this command only as root")
def test_a_login_that_waits_in_silence_is_not_a_host_that_does_not_answer(
    server: Start, tmp_path: Path
) -> None:
    error = failure(held_login(server, tmp_path))

    assert error.message.startswith("the login on node waits for something, such as the touch of a")


needs_bash = pytest.mark.skipif(
    Path(USER.pw_shell).name != "bash", reason="the user's login shell is not bash"
)


@needs_bash
def test_a_login_whose_profile_waits_says_so(server: Start, tmp_path: Path) -> None:
    (tmp_path / ".bashrc").write_text("echo 'Which tmux session?'\nexec sleep 60\n")

    error = failure(server().client_config())

    expected = "node accepted the login, but no shell answered; it said: Which tmux session?"
    assert error.message == expected
    assert "~/.bashrc" in (error.hint or "")


@needs_bash
def test_a_slow_login_is_waited_for(server: Start, tmp_path: Path) -> None:
    (tmp_path / ".bashrc").write_text("sleep 2\n")
    program = SshProgram(config=server().client_config(), connect_timeout_s=2)

    with SshTransport(program) as ssh:
        assert run(ssh, WORDS) == "2 words\n"


@pytest.mark.parametrize(
    "said",
    [
        "Password change required but no TTY available.",
        "open terminal failed: not a terminal",
        "This account is currently not available.",
    ],
)
def test_a_login_that_ends_at_once_says_why(server: Start, said: str) -> None:
    error = failure(server(f"ForceCommand echo '{said}'; exit 1").client_config())

    assert error.message == (
        f"node accepted the login but does not run commands for this user: {said.rstrip('.')}"
    )
    assert "ssh -t node" in (error.hint or "")


# ---- shells


@needs_bash
@pytest.mark.parametrize("shell", ["zsh", "fish", "tcsh"])
def test_another_shell_behind_exec_in_the_profile_is_named(
    server: Start, tmp_path: Path, shell: str
) -> None:
    (tmp_path / ".bashrc").write_text(f"echo hello\nexec {need(shell)}\n")
    started = time.monotonic()

    error = failure(server().client_config(), timeout_s=10)

    assert error.message == (
        f"the login of {USER.pw_name} on node starts {shell}, which is not a POSIX shell"
    )
    assert f"`[[ $- == *i* ]] && exec {shell}`" in (error.hint or "")
    assert time.monotonic() - started < 10


@needs_bash
@pytest.mark.parametrize("shell", ["zsh", "fish", "tcsh"])
def test_the_remedy_for_another_shell_works(server: Start, tmp_path: Path, shell: str) -> None:
    (tmp_path / ".bashrc").write_text(f"[[ $- == *i* ]] && exec {need(shell)}\n")

    with SshTransport(SshProgram(config=server().client_config())) as ssh:
        assert run(ssh, WORDS) == "2 words\n"


@needs_bash
@pytest.mark.parametrize("shell", ["bash", "dash", "ksh", "busybox sh"])
def test_another_posix_shell_behind_exec_runs_scripts(
    server: Start, tmp_path: Path, shell: str
) -> None:
    program, *more = shell.split()
    (tmp_path / ".bashrc").write_text(f"exec {need(program)} {' '.join(more)}\n")

    with SshTransport(SshProgram(config=server().client_config())) as ssh:
        assert run(ssh, WORDS) == "2 words\n"


LOGIN_SHELLS = ["zsh", "fish", "tcsh", "dash", "bash"]


def as_login_shell(shell: str) -> str:
    """Return a setting with which sshd runs commands as it does if this is the login shell."""
    return f'ForceCommand exec {need(shell)} -c "$SSH_ORIGINAL_COMMAND"'


@pytest.mark.parametrize("shell", LOGIN_SHELLS)
def test_any_login_shell_runs_scripts(server: Start, shell: str) -> None:
    with SshTransport(SshProgram(config=server(as_login_shell(shell)).client_config())) as ssh:
        assert run(ssh, WORDS) == "2 words\n"


@pytest.mark.parametrize("shell", LOGIN_SHELLS)
def test_a_terminal_is_opened_from_any_login_shell(
    server: Start, tmp_path: Path, shell: str, capfd: pytest.CaptureFixture[str]
) -> None:
    docker = tmp_path / "bin/docker"
    docker.parent.mkdir()
    docker.write_text(
        '#!/bin/sh\n[ "$1" != ps ] || { echo cid; exit; }\nprintf "<%s>" "$@"; exit 7\n'
    )
    docker.chmod(0o755)
    words = ("psql", "-c", 'it\'s\n\\d "$HOME" !! `id` ö')
    path = f"{docker.parent}:/usr/bin:/bin"
    sshd = server(as_login_shell(shell), environment={"PATH": path})
    program = SshProgram(config=sshd.client_config())

    assert program.attach("node", attach_command(CORE, "db", words)) == 7

    expected = "".join(f"<{word}>" for word in ("exec", "-it", "cid", *words))
    assert capfd.readouterr().out == expected


# ---- configurations of ssh

FORWARDED = "127.0.0.1:{port} 127.0.0.1:1"
SETTINGS = [
    {"ForkAfterAuthentication": "yes"},
    {"SessionType": "none"},
    {"SessionType": "subsystem", "RemoteCommand": "sftp"},
    {"StdinNull": "yes"},
    {"RequestTTY": "force", "EscapeChar": "x"},
    {"RemoteCommand": "tmux attach"},
    {"PermitLocalCommand": "yes", "LocalCommand": "echo local; exec sleep 60"},
    {"ControlMaster": "autoask", "ControlPersist": "yes", "ControlPath": "{directory}/%C"},
    {"ControlMaster": "no", "ControlPath": "{directory}/none"},
    {"LocalForward": FORWARDED, "ExitOnForwardFailure": "yes"},
    {"RemoteForward": FORWARDED, "ExitOnForwardFailure": "yes"},
    {"DynamicForward": "127.0.0.1:{port}", "ExitOnForwardFailure": "yes"},
    {"Tunnel": "point-to-point", "TunnelDevice": "any:any", "ExitOnForwardFailure": "yes"},
    {"ForwardX11": "yes", "ForwardX11Trusted": "yes"},
    {"BatchMode": "no", "NumberOfPasswordPrompts": "3"},
    {"LogLevel": "QUIET"},
    {"LogLevel": "DEBUG3", "LogVerbose": "*"},
    {"VisualHostKey": "yes", "Compression": "yes", "RekeyLimit": "16K"},
    {"ServerAliveInterval": "0", "TCPKeepAlive": "no", "ConnectionAttempts": "30"},
    {"StrictHostKeyChecking": "ask", "UpdateHostKeys": "ask", "HashKnownHosts": "yes"},
    {"SetEnv": "LC_ALL=de_DE.UTF-8 LANG=de_DE.UTF-8"},
    {"IgnoreUnknown": "UseKeychain", "UseKeychain": "yes"},
    {"AddKeysToAgent": "confirm", "IdentityAgent": "none"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(settings))
def test_no_setting_of_the_users_configuration_breaks_a_session(
    sshd: Sshd, tmp_path: Path, settings: dict[str, str]
) -> None:
    filled = {
        key: value.format(port=sshd.port, directory=tmp_path) for key, value in settings.items()
    }
    config = sshd.client_config("user", **filled)

    with SshTransport(SshProgram(config=config)) as ssh:
        assert run(ssh, f"{WORDS}; head -c 100000 /dev/zero | wc -c") == "2 words\n100000\n"
        assert ssh.connections == 1

    assert not list(tmp_path.iterdir()), "no connection is shared"


def test_messages_on_a_host_are_english_whatever_language_ssh_sends(server: Start) -> None:
    sshd = server("AcceptEnv *")
    config = sshd.client_config("german", SetEnv="LC_ALL=de_DE.UTF-8 LANGUAGE=de")

    with SshTransport(SshProgram(config=config)) as ssh:
        assert run(ssh, 'echo "$LC_ALL"; cat /nowhere 2>&1 || :').splitlines() == [
            "C",
            "cat: /nowhere: No such file or directory",
        ]


def test_a_proxy_that_cannot_be_started_is_named(sshd: Sshd) -> None:
    error = failure(sshd.client_config("proxy", ProxyCommand="no-such-proxy %h"))

    assert error.message.startswith("ssh could not connect to node: ")
    assert "no-such-proxy" in error.message


def test_a_jump_host_that_refuses_the_connection_is_named(sshd: Sshd) -> None:
    error = failure(sshd.client_config("jump", ProxyCommand="ssh -p 1 -W %h:%p 127.0.0.1"))

    assert "refused the connection" in error.message


def test_a_key_that_its_agent_does_not_use_is_named(sshd: Sshd, tmp_path: Path) -> None:
    socket = tmp_path / "agent"
    environment = {
        **os.environ,
        "SSH_AUTH_SOCK": str(socket),
        "SSH_ASKPASS": "/bin/false",
        "SSH_ASKPASS_REQUIRE": "force",
        "DISPLAY": ":1",
    }
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], env=environment,
                             stdout=subprocess.DEVNULL)  # fmt: skip
    try:
        while not socket.exists():
            time.sleep(0.01)
        subprocess.run(["ssh-add", "-q", "-c", sshd.user_key], env=environment, check=True)
        public = sshd.user_key.with_suffix(".pub")
        config = sshd.client_config("agent", IdentityAgent=str(socket), IdentityFile=str(public))
        error = failure(config, timeout_s=5)
    finally:
        agent.terminate()
        agent.wait()

    assert error.message == ("this user's key for node could not be used: agent refused operation")
