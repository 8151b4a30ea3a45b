"""The transport that is used for real: the user's own OpenSSH client."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ktrdr.deployment.scripts.script import SENTINEL
from ktrdr.deployment.ssh import diagnosis
from ktrdr.deployment.ssh import protocol as frame
from ktrdr.deployment.ssh.cancel_event import Bell
from ktrdr.deployment.ssh.interface import OnLine, RemoteResult
from ktrdr.deployment.ssh.output import Output
from ktrdr.deployment.ssh.program import SshProgram
from ktrdr.deployment.ssh.session import Broken, Shell
from ktrdr.errors import Interrupted, KtrdrError
from ktrdr.secret import Scrubber, Secret

# So many at the same time: at the next one, the sshd of a host that all jump over would begin to
# refuse some (MaxStartups 10:30:100).
_LOGINS: Final = 10
_CLOSED: Final = "the connections to the hosts were closed"


class SshTransport:
    """Runs scripts on hosts, one after the other in one shell each.

    Safe to use from several threads. Several scripts at once on one host need a connection each,
    which are then used again.

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
        self._state = threading.Condition()
        self._opening: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._idle: defaultdict[str, list[Shell]] = defaultdict(list)
        self._logins = threading.BoundedSemaphore(_LOGINS)
        self._busy: set[Shell] = set()
        self._failures: dict[str, tuple[float, KtrdrError]] = {}
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._ended = threading.Event()
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
        self, host: str, script: Secret, *, timeout_s: float, on_line: OnLine | None = None
    ) -> RemoteResult:
        """See `Transport.run`; the time to connect is not part of ``timeout_s``.

        Raises:
            ConfigurationError: ssh does not understand its own configuration.
            Interrupted: Another thread closed or interrupted this transport.
        """
        out = Output("stdout", self._scrubber, on_line=on_line, sentinel=SENTINEL)
        err = Output("stderr", self._scrubber, on_line=on_line)
        with self._shell_on(host) as shell:
            result = self._run(shell, frame.apart(script.reveal()), timeout_s, out, err)
        if result.exit_code == 0 and not out.complete:
            raise diagnosis.cut_short(host)
        return result

    def hold(self, host: str, lines: Secret, *, timeout_s: float) -> tuple[RemoteResult, _Grip]:
        """See `Transport.hold`."""
        with self._shell_on(host) as shell:
            return self._within(shell, lines, timeout_s), _Grip(self, shell)

    def connect(self, host: str) -> None:
        """See `Transport.connect`."""
        asked = time.monotonic()
        with self._state:
            opening, bell = self._opening[host], self._bell
        # Who waits for this finds the shell idle then, and opens none beside it.
        with opening, self._given_back(self._take_idle(host) or self._open(host, asked, bell)):
            pass

    def interrupt(self) -> None:
        """See `Transport.interrupt`."""
        with self._state:
            rung, self._bell = self._bell, Bell()
        rung.ring()

    def close(self) -> None:
        """Ends the connections, and with them the scripts that other threads still run."""
        self._ended.set()
        with self._state:
            idle = [shell for shells in self._idle.values() for shell in shells]
            # All are told before the first is waited for; whoever uses one closes it.
            for shell in (*self._busy, *idle):
                shell.hang_up()
            for shell in idle:
                shell.close()
            self._idle.clear()
            if self._directory:
                self._directory.cleanup()
                self._directory = None

    def let_go(self, shell: Shell, lines: Secret, timeout_s: float) -> None:
        """Runs lines in a shell that holds something, once it is idle."""
        with self._state:
            self._state.wait_for(lambda: shell not in self._busy)
            if self._ended.is_set():
                raise Interrupted(_CLOSED)
            if shell not in self._idle[shell.host]:
                raise shell.cause_of_death()
            self._idle[shell.host].remove(shell)
            self._busy.add(shell)
        with self._given_back(shell):
            self._within(shell, lines, timeout_s)

    def _within(self, shell: Shell, lines: Secret, timeout_s: float) -> RemoteResult:
        out = Output("stdout", self._scrubber, on_line=None)
        err = Output("stderr", self._scrubber, on_line=None)
        return self._run(shell, frame.within(lines.reveal()), timeout_s, out, err)

    def _run(
        self, shell: Shell, script: bytes, timeout_s: float, out: Output, err: Output
    ) -> RemoteResult:
        with self._state:
            self.scripts += 1
            bell = self._bell
        started = time.monotonic()
        try:
            code = shell.run(script, timeout_s, (out.feed, err.feed), bell)
        except TimeoutError as exc:
            raise diagnosis.too_slow(shell.host, timeout_s) from exc
        except Broken:
            if self._ended.is_set():
                raise Interrupted(f"the script on {shell.host} was ended") from None
            raise shell.cause_of_death() from None
        finally:
            out.finish()
            err.finish()
        return RemoteResult(code, out.text, err.text, time.monotonic() - started)

    @contextmanager
    def _shell_on(self, host: str) -> Iterator[Shell]:
        """A shell on the host for this thread alone, opened where all others are in use."""
        asked = time.monotonic()
        with self._state:
            opening, bell = self._opening[host], self._bell
        shell = self._take_idle(host)
        if shell is None:
            with opening:
                shell = self._take_idle(host) or self._open(host, asked, bell)
        with self._given_back(shell):
            yield shell

    @contextmanager
    def _given_back(self, shell: Shell) -> Iterator[None]:
        try:
            yield
        finally:
            with self._state:
                self._busy.discard(shell)
                self._state.notify_all()
                stays = shell.alive and not self._ended.is_set()
                if stays:
                    self._idle[shell.host].append(shell)
            if not stays:
                shell.close()

    def _take_idle(self, host: str) -> Shell | None:
        with self._state:
            if self._ended.is_set():
                raise Interrupted(_CLOSED)
            for shell in list(self._idle[host]):
                self._idle[host].remove(shell)
                if shell.alive:
                    self._busy.add(shell)
                    return shell
                shell.close()
        return None

    def _open(self, host: str, asked: float, bell: Bell) -> Shell:
        self._raise_what_failed_since(asked, host)
        try:
            with self._logins:
                shell = Shell(self._program, host, self._new_directory(), bell)
        except KtrdrError as error:
            self._failures[host] = (time.monotonic(), error)
            raise
        with self._state:
            if not self._ended.is_set():
                self._busy.add(shell)
                self.connections += 1
                return shell
        shell.close()
        raise Interrupted(_CLOSED)

    def _raise_what_failed_since(self, asked: float, host: str) -> None:
        """Lets those who waited for an attempt share its failure, rather than fail one by one."""
        when, error = self._failures.get(host, (0.0, None))
        if error is not None and when >= asked:
            raise error

    def _new_directory(self) -> Path:
        with self._state:
            if self._ended.is_set():
                raise Interrupted(_CLOSED)
            if self._directory is None:
                self._directory = tempfile.TemporaryDirectory(prefix="ktrdr-")
                threading.Thread(target=self._beat, name="beats", daemon=True).start()
            return Path(tempfile.mkdtemp(dir=self._directory.name))

    def _beat(self) -> None:
        """Tells the shells in which nothing runs that this end is there."""
        while not self._ended.wait(frame.BEAT_EVERY_S):
            with self._state:
                for shells in self._idle.values():
                    for shell in shells:
                        shell.beat()


@dataclass(frozen=True, slots=True)
class _Grip:
    """See `Grip`."""

    transport: SshTransport
    shell: Shell

    def lost(self) -> KtrdrError | None:
        """See `Grip.lost`."""
        return None if self.shell.alive else self.shell.cause_of_death()

    @property
    def was_released(self) -> bool:
        """See `Grip.was_released`."""
        return self.shell.was_killed

    def let_go(self, lines: Secret, *, timeout_s: float) -> None:
        """See `Grip.let_go`."""
        self.transport.let_go(self.shell, lines, timeout_s)
