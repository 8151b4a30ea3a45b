"""How ssh is called."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ktrdr.deployment.ssh import diagnosis

# So many unanswered questions in a row make a peer dead.
_ALIVE_COUNT: Final = 3


@dataclass(frozen=True, slots=True)
class SshProgram:
    """How ssh is called.

    Attributes:
        executable: Its name or path.
        config: A configuration file to use in place of the user's own.
        user: The user to log in as; by default what the configuration says.
        connect_timeout_s: Seconds an address has to answer.
        alive_interval_s: Seconds of silence after which the peer is asked whether it is there.
    """

    executable: str = "ssh"
    config: Path | None = None
    user: str | None = None
    connect_timeout_s: int = 10
    alive_interval_s: int = 5

    def start(self, host: str, *options: str, command: str) -> subprocess.Popen[bytes]:
        """Starts ssh, out of reach of the terminal's Ctrl-C, which the caller deals with.

        Raises:
            HostUnreachable: There is no such program.
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
            raise diagnosis.ssh_missing(self.executable) from exc

    def attach(self, host: str, command: str) -> int:
        """Runs a command with the user's own terminal, and returns its exit code.

        Raises:
            HostUnreachable: There is no such program.
        """
        try:
            # Of two such options ssh heeds the last.
            done = subprocess.run([*self._arguments(), "-t", "--", host, command], check=False)
        except (FileNotFoundError, PermissionError) as exc:
            raise diagnosis.ssh_missing(self.executable) from exc
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
            # What the user's configuration may set for their own work, and would disturb ours.
            "ClearAllForwardings": "yes",
            "ControlMaster": "no",
            "ControlPath": "none",
            "LogLevel": "INFO",
            "RemoteCommand": "none",
        }
        for name, value in options.items():
            arguments += ["-o", f"{name}={value}"]
        return arguments
