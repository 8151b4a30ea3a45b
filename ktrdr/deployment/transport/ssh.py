"""The transport that is used for real: the user's own OpenSSH client."""

from __future__ import annotations

import itertools
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ktrdr.deployment.commands.script import SENTINEL
from ktrdr.deployment.transport import diagnosis
from ktrdr.deployment.transport.connection import SOCKET_NAME, Connection, SshProgram
from ktrdr.deployment.transport.conversation import Bell, Conversation, opened
from ktrdr.deployment.transport.interface import OnLine, RemoteResult
from ktrdr.deployment.transport.lifeline import SSH_FAILED, with_lifeline
from ktrdr.deployment.transport.output import Output
from ktrdr.errors import ConfigurationError, Interrupted, KtrdrError
from ktrdr.secret import Scrubber, Secret

# The path of a socket ends at 104 bytes on macOS (108 on Linux), its closing zero and the
# 17 characters that ssh appends while it makes one included.
_SOCKET_PATH_LIMIT: Final = 104 - 1 - 17
_CLOSED: Final = "the connections to the hosts were closed"


class SshTransport:
    """Runs scripts on hosts over one connection each.

    Safe to use from several threads, for several hosts or one.

    Attributes:
        connections: How many connections were opened so far.
        scripts: How many scripts were sent so far.
    """

    def __init__(
        self, program: SshProgram | None = None, *, scrubber: Scrubber | None = None
    ) -> None:
        """Opens nothing yet.

        Args:
            program: How to call ssh; by default as the user would.
            scrubber: Cleans all that comes back; it may learn secrets while this is in use.
        """
        self.connections = 0
        self.scripts = 0
        self._scrubber = scrubber or Scrubber()
        self._program = program or SshProgram()
        # Guards everything below; `_opening` holds one more lock a host, taken while connecting.
        self._state = threading.Lock()
        self._opening: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._connections: dict[str, Connection] = {}
        self._failures: dict[str, tuple[float, KtrdrError]] = {}
        self._shells: set[subprocess.Popen[bytes]] = set()
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._numbers = itertools.count()
        self._closed = False
        self._bell = Bell()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run(
        self,
        host: str,
        script: Secret,
        *,
        timeout_s: float,
        on_line: OnLine | None = None,
        stays: bool = False,
    ) -> RemoteResult:
        """See `Transport.run`; the time to connect is not part of ``timeout_s``.

        Raises:
            ConfigurationError: ssh does not understand its own configuration.
            Interrupted: Another thread closed or interrupted this transport.
        """
        bell = None if stays else self._bell
        connection = self._connection_to(host, bell)
        out = Output("stdout", self._scrubber, on_line=on_line, sentinel=SENTINEL)
        err = Output("stderr", self._scrubber, on_line=on_line)
        log = self._new_log(connection)
        started = time.monotonic()
        with self._shell_on(connection, log) as process:
            conversation = Conversation(
                process,
                with_lifeline(script.reveal()).encode(),
                {opened(process.stdout): out.feed, opened(process.stderr): err.feed},
                bell,
            )
            try:
                code = conversation.run(timeout_s)
            except TimeoutError as exc:
                raise diagnosis.too_slow(host, timeout_s) from exc
            finally:
                out.finish()
                err.finish()
        if code == SSH_FAILED or code < 0:
            raise self._what_broke(connection, log)
        if code == 0 and not out.complete:
            raise diagnosis.cut_short(host)
        return RemoteResult(code, out.text, err.text, time.monotonic() - started)

    def connect(self, host: str) -> None:
        """See `Transport.connect`."""
        self._connection_to(host, self._bell)

    def interrupt(self) -> None:
        """See `Transport.interrupt`."""
        with self._state:
            rung, self._bell = self._bell, Bell()
        rung.ring()

    def close(self) -> None:
        """Ends the connections, and with them the scripts that other threads still run."""
        with self._state:
            self._closed = True
            for process in self._shells:
                process.terminate()
            # All are told before the first is waited for.
            for connection in self._connections.values():
                connection.hang_up()
            for connection in self._connections.values():
                connection.close()
            self._connections.clear()
            if self._directory:
                self._directory.cleanup()
                self._directory = None

    def _connection_to(self, host: str, bell: Bell | None) -> Connection:
        """The open connection to the host, opened or opened anew where needed."""
        asked = time.monotonic()
        with self._state:
            opening = self._opening[host]
        with opening:
            connection = self._connections.get(host)
            if connection is not None and connection.alive:
                return connection
            self._raise_what_failed_since(asked, host)
            if connection is not None:
                connection.close()
            try:
                connection = Connection(self._program, host, self._new_directory(), bell)
            except KtrdrError as error:
                self._failures[host] = (time.monotonic(), error)
                raise
            self._keep(connection)
            return connection

    def _raise_what_failed_since(self, asked: float, host: str) -> None:
        """Lets those who waited for an attempt share its failure, rather than fail one by one."""
        when, error = self._failures.get(host, (0.0, None))
        if error is not None and when >= asked:
            raise error

    def _keep(self, connection: Connection) -> None:
        with self._state:
            if self._closed:
                connection.close()
                raise Interrupted(_CLOSED)
            self._connections[connection.host] = connection
            self.connections += 1

    def _new_directory(self) -> Path:
        with self._state:
            if self._closed:
                raise Interrupted(_CLOSED)
            if self._directory is None:
                self._directory = _private_directory()
            path = Path(self._directory.name, str(next(self._numbers)))
        path.mkdir()
        return path

    def _new_log(self, connection: Connection) -> Path:
        with self._state:
            self.scripts += 1
            return connection.directory / f"{self.scripts}.log"

    @contextmanager
    def _shell_on(self, connection: Connection, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """A shell on the host, which `close` knows of as long as it runs."""
        process = connection.start_shell(log)
        with self._state:
            self._shells.add(process)
        try:
            yield process
        finally:
            with self._state:
                self._shells.discard(process)

    def _what_broke(self, connection: Connection, log: Path) -> KtrdrError:
        if self._closed:
            return Interrupted(f"the script on {connection.host} was ended")
        cause = connection.cause_of_death()
        if cause is not None:
            return diagnosis.connection_lost(connection.host, cause)
        complaint = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        if complaint.strip():
            return diagnosis.connection_lost(connection.host, complaint)
        return diagnosis.killed(connection.host)


def _private_directory() -> tempfile.TemporaryDirectory[str]:
    directory = tempfile.TemporaryDirectory(prefix="ktrdr-")
    longest = len(f"{directory.name}/9999/{SOCKET_NAME}".encode())
    if longest > _SOCKET_PATH_LIMIT:
        directory.cleanup()
        raise ConfigurationError(
            f"the directory for temporary files {tempfile.gettempdir()} has too long a path "
            "to hold the socket of an ssh connection",
            hint="Set TMPDIR to a shorter path, such as /tmp.",
        )
    return directory
