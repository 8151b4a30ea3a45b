"""The one connection to a host that all scripts run there share."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from ktrdr.deployment.transport import diagnosis
from ktrdr.deployment.transport.conversation import Bell, end_process, opened
from ktrdr.deployment.transport.lifeline import SSH_FAILED
from ktrdr.errors import Interrupted, KtrdrError

# Short, since the path of a socket is: this is why it is not ssh's own `%C` of 40 characters.
SOCKET_NAME: Final = "s"
# So many unanswered questions in a row make a peer dead.
_ALIVE_COUNT: Final = 3
# A name may have several addresses, each of which is tried; then comes the login.
_ATTEMPTS: Final = 3
_GREETING: Final = b"ktrdr is connected\n"
# How long the end of a script may precede that of the connection it ended of.
_DYING_S: Final = 1.0


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

    def start(
        self, host: str, *options: str, command: str, stderr: int | IO[bytes]
    ) -> subprocess.Popen[bytes]:
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
                stderr=stderr,
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
            "ControlPersist": "no",
            "LogLevel": "INFO",
            "RemoteCommand": "none",
        }
        for name, value in options.items():
            arguments += ["-o", f"{name}={value}"]
        return arguments


class Connection:
    """An open master connection.

    Its remote end is a ``cat``: what it echoes shows that the login works, and since it ends with
    its input, no connection outlives this process, however it dies.

    Attributes:
        host: The name it was opened with.
        directory: Where its socket and the messages of ssh are.
    """

    def __init__(
        self, program: SshProgram, host: str, directory: Path, bell: Bell | None = None
    ) -> None:
        """Connects and logs in.

        Args:
            program: How to call ssh.
            host: A name as ssh understands it.
            directory: An empty private directory, for the socket and ssh's messages. Its path must
                be short: that of a socket ends at 104 bytes on macOS, ssh's suffix included.
            bell: Ends the attempt when it rings.

        Raises:
            Interrupted: The bell rang.
            HostUnreachable: It did not come about; the message says why.
            ConfigurationError: ssh does not understand its own configuration.
        """
        self.host = host
        self._program = program
        self.directory = directory
        self._log = directory / "log"
        with self._log.open("wb") as log:
            self._process = program.start(host, "-M", "-S", self._socket, command="cat", stderr=log)
        try:
            self._greet(program.connect_timeout_s * _ATTEMPTS, bell)
        except BaseException:
            self.close()
            raise

    @property
    def _socket(self) -> str:
        return str(self.directory / SOCKET_NAME).replace("%", "%%")

    @property
    def alive(self) -> bool:
        """Whether the connection still stands, as far as this end knows."""
        return self._process.poll() is None

    def start_shell(self, log: Path) -> subprocess.Popen[bytes]:
        """Starts a shell on the host that reads its script from standard input.

        Args:
            log: Where ssh writes what it has to say itself; the script's errors are on stderr.
        """
        return self._program.start(
            self.host,
            *("-o", "ControlMaster=no", "-S", self._socket, "-E", str(log)),
            # Without the master there is to be no connection, rather than a second one.
            *("-o", "ProxyCommand=false"),
            command="exec sh -s",
            stderr=subprocess.PIPE,
        )

    def cause_of_death(self) -> str | None:
        """What ssh said when the connection ended, or None if it still stands."""
        try:
            self._process.wait(_DYING_S)
        except subprocess.TimeoutExpired:
            return None
        return self._log.read_text(encoding="utf-8", errors="replace")

    def hang_up(self) -> None:
        """Tells the connection to end, without waiting for it."""
        if self.alive:
            self._process.terminate()

    def close(self) -> None:
        """Ends the connection, and with it every script that runs over it."""
        end_process(self._process)

    def _greet(self, timeout_s: float, bell: Bell | None) -> None:
        # The pipe takes the few bytes at once, whether or not anybody reads them. An ssh that has
        # already given up is heard of below.
        with contextlib.suppress(BrokenPipeError):
            os.write(opened(self._process.stdin).fileno(), _GREETING)
        output = opened(self._process.stdout).fileno()
        deadline = time.monotonic() + timeout_s
        heard = b""
        while _GREETING not in heard:
            awaited = [output, bell.fileno()] if bell else [output]
            ready = select.select(awaited, [], [], max(0.0, deadline - time.monotonic()))[0]
            if bell and bell.fileno() in ready:
                raise Interrupted(f"connecting to {self.host} was interrupted")
            if not ready:
                raise diagnosis.connection_fault(self.host, "the login timed out")
            data = os.read(output, 4096)
            if not data:
                raise self._refusal(heard)
            heard += data

    def _refusal(self, heard: bytes) -> KtrdrError:
        code = self._process.wait()
        log = self._log.read_text(encoding="utf-8", errors="replace")
        if code == SSH_FAILED:
            return diagnosis.connection_fault(self.host, log)
        return diagnosis.no_shell(self.host, heard.decode("utf-8", "replace") + log)
