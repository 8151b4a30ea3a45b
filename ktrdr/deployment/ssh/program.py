"""The ssh program and its options."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ktrdr.deployment.ssh import diagnosis

# After this many unanswered keep-alive messages in a row the connection counts as dead.
_ALIVE_COUNT: Final = 3


@dataclass(frozen=True, slots=True)
class SshProgram:
    """Program and options that reach hosts.

    Attributes:
        executable: Name or path of the program.
        config: Configuration file that replaces the user's own.
        user: User to log in as; by default the configuration decides.
        connect_timeout_s: Time that an address has to answer (s).
        alive_interval_s: Silence after which ssh sends a keep-alive message (s).
    """

    executable: str = "ssh"
    config: Path | None = None
    user: str | None = None
    connect_timeout_s: int = 10
    alive_interval_s: int = 5

    def start(self, host: str, *options: str, command: str) -> subprocess.Popen[bytes]:
        """Start ssh in a session of its own, so that the terminal's Ctrl-C reaches only the caller.

        Raises:
            HostUnreachable: The program is not installed.
        """
        try:
            return subprocess.Popen(
                [*self._arguments(), *options, "--", host, command],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except (FileNotFoundError, PermissionError) as exc:
            raise diagnosis.ssh_missing_error(self.executable) from exc

    def attach(self, host: str, command: str) -> int:
        """Run a command with the user's own terminal, and return its exit code.

        Raises:
            HostUnreachable: The program is not installed.
        """
        try:
            # -t wins over the -T before it: ssh uses the last of the two.
            done = subprocess.run([*self._arguments(), "-t", "--", host, command], check=False)
        except (FileNotFoundError, PermissionError) as exc:
            raise diagnosis.ssh_missing_error(self.executable) from exc
        return done.returncode

    def _arguments(self) -> list[str]:
        arguments = [self.executable, "-T"]
        if self.config:
            arguments += ["-F", str(self.config)]
        if self.user:
            arguments += ["-l", self.user]
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": str(self.connect_timeout_s),
            "ServerAliveInterval": str(self.alive_interval_s),
            "ServerAliveCountMax": str(_ALIVE_COUNT),
            # The user may have set these for manual work. They would disturb scripts.
            "ClearAllForwardings": "yes",
            "ControlMaster": "no",
            "ControlPath": "none",
            "LogLevel": "INFO",
            "RemoteCommand": "none",
        }
        for name, value in options.items():
            arguments += ["-o", f"{name}={value}"]
        return arguments
