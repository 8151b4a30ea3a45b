"""The ssh program, and the remote shell on one host that runs one script after the other."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import selectors
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Final

from ktrdr.deployment.ssh import diagnosis, protocol
from ktrdr.deployment.ssh.protocol import MarkedOutput, OnBytes
from ktrdr.errors import Interrupted, KtrdrError

# After this many unanswered keep-alive messages in a row the connection counts as dead.
_ALIVE_COUNT: Final = 3
# A name may have several addresses, and ssh tries each. The login comes after that.
_CONNECT_ATTEMPTS: Final = 3
_CHUNK_SIZE: Final = 65536
# The exit code of ssh for its own errors, and for a shell that a signal has ended.
_SSH_FAILED: Final = 255
# Maximum duration of a script's end after END, and interval at which END is sent.
_CANCEL_TIMEOUT_S: Final = protocol.GRACE_S + 2.0
_CANCEL_INTERVAL_S: Final = 0.5
_EXIT_TIMEOUT_S: Final = 1.0
_PROBE_TIMEOUT_S: Final = 3.0
_PROGRAM_TIMEOUT_S: Final = 10.0
_MAX_LOG: Final = 1 << 20
_SHELL: Final = "exec sh -s"
# Options that the user may have set for manual work, and that would disturb scripts, by the first
# version of OpenSSH that knows them.
_OPTIONS: Final = {
    (0, 0): "BatchMode=yes ClearAllForwardings=yes ConnectionAttempts=1 ControlMaster=no "
    "ControlPath=none ForwardX11=no PermitLocalCommand=no RemoteCommand=none Tunnel=no "
    "VisualHostKey=no",
    (8, 7): "ForkAfterAuthentication=no LogVerbose=none SessionType=default StdinNull=no",
    (9, 6): "ChannelTimeout=none",
}


@dataclass(frozen=True, slots=True)
class SshProgram:
    """Program and options that reach hosts.

    Attributes:
        executable: Name or path of the program.
        config: Configuration file that replaces the user's own.
        user: User to log in as; by default the configuration decides.
        connect_timeout_s: Maximum wait for an answer of each address (s).
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
                # At this level, the log tells whether the host has accepted the login.
                [*self._arguments(), "-o", "LogLevel=DEBUG1", *options, "--", host, command],
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
            options = ("-o", "LogLevel=INFO", "-t", "--")
            return subprocess.call([*self._arguments(), *options, host, command])
        except (FileNotFoundError, PermissionError) as exc:
            raise diagnosis.ssh_missing_error(self.executable) from exc

    def _arguments(self) -> list[str]:
        arguments = [self.executable, "-T"]
        if self.config:
            arguments += ["-F", str(self.config)]
        if self.user:
            arguments += ["-l", self.user]
        version = _version(self.executable)
        for option in (
            f"ConnectTimeout={self.connect_timeout_s}",
            f"ServerAliveInterval={self.alive_interval_s}",
            f"ServerAliveCountMax={_ALIVE_COUNT}",
            *" ".join(text for since, text in _OPTIONS.items() if version >= since).split(),
        ):
            arguments += ["-o", option]
        return arguments


def program_output(*command: str) -> str:
    """Return what a program prints, or an empty string if it cannot be run."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_PROGRAM_TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout or done.stderr


@lru_cache
def _version(executable: str) -> tuple[int, int]:
    """Return the version of OpenSSH, or (0, 0) for another program."""
    match = re.search(r"OpenSSH_\D*(\d+)\.(\d+)", program_output(executable, "-V"))
    return (int(match[1]), int(match[2])) if match else (0, 0)


class SessionEnded(Exception):
    """The session ended before the script did."""


class CancelEvent:
    """Event that is set once, and cancels all waits for it. Create another for each operation."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def fileno(self) -> int:
        """Return the file descriptor that becomes readable once the event is set."""
        return self._read

    def set(self) -> None:
        os.write(self._write, b"!")

    def __del__(self) -> None:
        # Every waiting thread holds a reference. Here no thread waits any more.
        os.close(self._read)
        os.close(self._write)


class RemoteSession:
    """Remote shell that waits for scripts and runs one at a time.

    The remote shell ends with its standard input. So it never outlives this process, even if this
    process is killed.

    Attributes:
        host: Name that ssh was called with.
    """

    def __init__(
        self, program: SshProgram, host: str, directory: Path, cancel: CancelEvent | None = None
    ) -> None:
        """Connect, log in, and start the remote shell.

        Args:
            program: Program and options that reach the host.
            host: Name that ssh can resolve.
            directory: Empty private directory for the messages of ssh.
            cancel: Ends the attempt when it is set.

        Raises:
            Interrupted: The attempt was cancelled.
            HostUnreachable: The connection failed; the message says why.
            ConfigurationError: ssh does not understand its own configuration.
        """
        self.host = host
        self._log = directory / "log"
        self._log.touch()
        self._disconnect_message = ""
        self._login_log_size = 0
        self._mark = f"ktrdr-{secrets.token_hex(16)}"
        self._process = program.start(host, "-E", str(self._log), command=_SHELL)
        os.set_blocking(_open_pipe(self._process.stdin).fileno(), False)
        output: list[bytes] = []
        self._begin(protocol.session_setup(self._mark), [output.append, output.append])
        try:
            self._log_in(program, cancel)
        except SessionEnded:
            self._wait_for_exit()
            self.close()
            raise self._login_error(b"".join(output)) from None
        except TimeoutError:
            self.close()
            said = b"".join(output).decode("utf-8", "replace")
            raise diagnosis.login_timeout_error(host, said, self._read_log()) from None
        except BaseException:
            self.close()
            raise

    @property
    def is_alive(self) -> bool:
        """Return whether the local ssh process runs; the remote shell may have ended already."""
        return self._process.poll() is None

    @property
    def was_killed(self) -> bool:
        """Return whether the remote shell was killed on its host while the connection was good."""
        return not self.is_alive and not self._disconnect_reason()

    def run(
        self,
        framed_script: bytes,
        timeout_s: float,
        on_output: Sequence[OnBytes],
        cancel: CancelEvent | None = None,
    ) -> int:
        """Run a framed script to its end, and return its exit code.

        Args:
            framed_script: Result of `protocol.subshell_frame` or `protocol.inline_frame`.
            timeout_s: The script is ended after this time (s).
            on_output: Called with the script's standard output, and with its standard error.
            cancel: Ends the script when it is set.

        Raises:
            TimeoutError: The script took too long.
            Interrupted: The script was cancelled.
            SessionEnded: The remote shell, or the connection, ended.
        """
        self._begin(framed_script, on_output)
        try:
            return self._exchange(timeout_s, cancel)
        except SessionEnded:
            raise
        except BaseException:
            # Also at Ctrl-C, a remote process must not outlive this call.
            self._cancel_script()
            raise

    def send_heartbeat(self) -> None:
        """Tell an idle remote shell that the caller is alive."""
        # A full or closed pipe means that the remote end is not listening any more.
        with contextlib.suppress(OSError, ValueError):
            os.write(_open_pipe(self._process.stdin).fileno(), protocol.HEARTBEAT)

    def end_error(self) -> KtrdrError:
        """Return the error that says why the session ended."""
        self._wait_for_exit()
        if reason := self._disconnect_reason():
            return diagnosis.connection_lost_error(self.host, reason)
        return diagnosis.killed_error(self.host)

    def terminate(self) -> None:
        """Request the end of the session, without waiting for it."""
        if self.is_alive:
            self._process.terminate()

    def close(self) -> None:
        """End the session, and every process that runs in it."""
        if self.is_alive:
            self._process.terminate()
            try:
                self._process.wait(_EXIT_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            _open_pipe(pipe).close()

    def _log_in(self, program: SshProgram, cancel: CancelEvent | None) -> None:
        """Wait for the shell; if it takes long, ask which shell it is."""
        timeout_s = program.connect_timeout_s * _CONNECT_ATTEMPTS
        try:
            self._exchange(timeout_s / 6, cancel)
        except TimeoutError:
            if error := self._foreign_shell_error(program):
                raise error from None
            self._exchange(timeout_s / 6 * 5, cancel)
        # What ssh has logged until now is no reason for the end of the session.
        with contextlib.suppress(FileNotFoundError):
            self._login_log_size = self._log.stat().st_size

    def _foreign_shell_error(self, program: SshProgram) -> KtrdrError | None:
        """Ask in another session for the shell. Some run nothing before their input ends."""
        log = self._read_log()
        if log and diagnosis.LOGGED_IN not in log:
            return None
        with program.start(self.host, command=_SHELL) as process:
            try:
                output, _ = process.communicate(
                    f"{protocol.NAME_SHELL}\n".encode(), timeout=_PROBE_TIMEOUT_S
                )
            except subprocess.TimeoutExpired:
                process.kill()
                return None
        return diagnosis.foreign_shell_error(self.host, output.decode("utf-8", "replace"))

    def _begin(self, data: bytes, on_output: Sequence[OnBytes]) -> None:
        pipes = (_open_pipe(self._process.stdout), _open_pipe(self._process.stderr))
        self._unsent = memoryview(data)
        self._ended: set[int] = set()
        self._outputs = {
            pipe.fileno(): MarkedOutput(self._mark, on_bytes)
            for pipe, on_bytes in zip(pipes, on_output, strict=True)
        }

    def _exchange(self, timeout_s: float, cancel: CancelEvent | None = None) -> int:
        """Send what is unsent, and read both outputs up to the mark."""
        outputs = self._outputs
        deadline = time.monotonic() + timeout_s
        next_heartbeat = time.monotonic() + protocol.HEARTBEAT_INTERVAL_S
        with selectors.DefaultSelector() as selector:
            for descriptor in outputs.keys() - self._ended:
                selector.register(descriptor, selectors.EVENT_READ)
            if cancel:
                selector.register(cancel, selectors.EVENT_READ)
            self._register_unsent(selector)
            while not all(output.is_complete for output in outputs.values()):
                now = time.monotonic()
                if now >= deadline:
                    raise TimeoutError
                if now >= next_heartbeat:
                    next_heartbeat = now + protocol.HEARTBEAT_INTERVAL_S
                    if not self._unsent:
                        self._unsent = memoryview(protocol.HEARTBEAT)
                        self._register_unsent(selector)
                for key, _ in selector.select(min(deadline, next_heartbeat) - now):
                    if key.fileobj is cancel:
                        raise Interrupted("the script was cancelled")
                    if key.fileobj is self._process.stdin:
                        self._send(selector)
                    else:
                        self._receive(key.fd, selector)
        return max(output.exit_code for output in outputs.values())

    def _cancel_script(self) -> None:
        """End the running script, or the whole session if the script does not end."""
        # A script that was sent in part does not run, and no other line can follow that part.
        deadline = time.monotonic() + (0 if self._unsent else _CANCEL_TIMEOUT_S)
        while time.monotonic() < deadline:
            # Repeat it, because the shell may read a line right after the script as a command.
            self._unsent = memoryview(protocol.END)
            with contextlib.suppress(TimeoutError):
                try:
                    self._exchange(_CANCEL_INTERVAL_S)
                except SessionEnded:
                    break
                return
        self.close()

    def _register_unsent(self, selector: selectors.BaseSelector) -> None:
        if self._unsent:
            selector.register(_open_pipe(self._process.stdin), selectors.EVENT_WRITE)

    def _send(self, selector: selectors.BaseSelector) -> None:
        pipe = _open_pipe(self._process.stdin)
        try:
            self._unsent = self._unsent[os.write(pipe.fileno(), self._unsent[:_CHUNK_SIZE]) :]
        except BrokenPipeError:
            self._unsent = self._unsent[:0]
        if not self._unsent:
            selector.unregister(pipe)

    def _receive(self, descriptor: int, selector: selectors.BaseSelector) -> None:
        if data := os.read(descriptor, _CHUNK_SIZE):
            self._outputs[descriptor].feed(data)
            return
        selector.unregister(descriptor)
        self._ended.add(descriptor)
        self._disconnect_message += self._outputs[descriptor].finish()
        # Both streams end with ssh, which may print its reason on the other one.
        if all(fd in self._ended or output.is_complete for fd, output in self._outputs.items()):
            raise SessionEnded

    def _wait_for_exit(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_EXIT_TIMEOUT_S)

    def _login_error(self, output: bytes) -> KtrdrError:
        said = output.decode("utf-8", "replace")
        if error := diagnosis.foreign_shell_error(self.host, said):
            return error
        if self._process.returncode == _SSH_FAILED:
            return diagnosis.connection_error(self.host, f"{said}\n{self._read_log()}")
        return diagnosis.no_shell_error(self.host, said)

    def _disconnect_reason(self) -> str:
        """Return why the connection was lost, from the messages of ssh since the login."""
        if not self._log.exists():
            return "it was closed"
        log = self._read_log(self._login_log_size)
        if reason := diagnosis.find_loss(f"{log}\n{self._disconnect_message}"):
            return reason
        code = self._process.poll() or 0
        return f"ssh was ended here by signal {-code}" if code < 0 else ""

    def _read_log(self, start: int = 0) -> str:
        """Return the end of what ssh has logged; `SshTransport.close` may have deleted it."""
        with contextlib.suppress(FileNotFoundError), self._log.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - _MAX_LOG))
            return file.read(_MAX_LOG).decode("utf-8", "replace").replace("\r\n", "\n")
        return ""


def _open_pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("the process was started without this pipe")
    return pipe
