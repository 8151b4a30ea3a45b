"""Real OpenSSH server on 127.0.0.1 with keys of its own, for tests."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_SSHD = "/usr/sbin/sshd"


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 15) -> None:
    """Wait for a condition by polling."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"timed out waiting until {what}"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_key(path: Path) -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True
    )
    return path


class Sshd:
    """Server, and client configurations that reach it in right and wrong ways."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.host_key = make_key(directory / "host_key")
        self.user_key = make_key(directory / "user_key")
        self.known_hosts = directory / "known_hosts"
        self.know(self.host_key)
        self._process: subprocess.Popen[bytes] | None = None

    def know(self, host_key: Path) -> None:
        """Make the client expect this host key."""
        public = host_key.with_suffix(".pub").read_text().rsplit(" ", 1)[0]
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {public}\n")

    def start(
        self,
        *settings: str,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it, with additional lines of configuration and options.

        The server's directory is the home of the user who logs in. A person's own shell profile
        may take longer than the tested code.
        """
        if os.geteuid() == 0:
            # The chroot directory of a server started as root. A service would create it.
            Path("/run/sshd").mkdir(exist_ok=True)
        given = {"HOME": str(self.directory)} | dict(environment or {})
        variables = " ".join(f"{name}={value}" for name, value in given.items())
        config = self.directory / "sshd_config"
        authorized = self.user_key.with_suffix(".pub")
        config.write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.host_key}\n"
            f"AuthorizedKeysFile {authorized}\nPidFile none\nStrictModes no\nUsePAM no\n"
            f"PasswordAuthentication no\nMaxStartups 100\nSetEnv {variables}\n"
            + "\n".join(settings)
            + "\n"
        )
        log = (self.directory / "sshd.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [_SSHD, "-D", "-e", "-f", config, *options], stderr=log
            )
        wait_until(self._answers, "sshd answers")

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()

    def client_config(self, name: str = "node", **changes: str) -> Path:
        """Write an ssh configuration in which every host name leads to this server."""
        settings = {
            "HostName": "127.0.0.1",
            "Port": str(self.port),
            "User": getpass.getuser(),
            "IdentityFile": str(self.user_key),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self.known_hosts),
        } | changes
        path = self.directory / f"{name}_config"
        lines = [f"  {key} {value}\n" for key, value in settings.items() if value]
        path.write_text("Host *\n" + "".join(lines))
        return path

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
