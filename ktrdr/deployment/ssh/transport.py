"""Transport over the user's own OpenSSH client."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from ktrdr.deployment.scripts.script import SENTINEL
from ktrdr.deployment.ssh import diagnosis, protocol
from ktrdr.deployment.ssh.interface import OnLine, RemoteResult
from ktrdr.deployment.ssh.output import OutputCollector
from ktrdr.deployment.ssh.session import CancelEvent, RemoteSession, SessionEnded, SshProgram
from ktrdr.errors import Interrupted, KtrdrError
from ktrdr.secret import Scrubber, Secret

# More logins at the same time would make the sshd of a common jump host refuse some of them
# (MaxStartups 10:30:100).
_MAX_LOGINS: Final = 10
_CLOSED: Final = "the connections to the hosts were closed"


class SshTransport:
    """Runner of scripts on hosts, one after the other in one remote shell per host.

    Safe to use from several threads. Simultaneous scripts on one host need a connection each. These
    connections are reused.

    Attributes:
        connections: Number of connections opened so far.
        scripts: Number of scripts sent so far.
    """

    def __init__(
        self, program: SshProgram | None = None, *, scrubber: Scrubber | None = None
    ) -> None:
        """Create the transport without a connection.

        Args:
            program: Program and options of ssh; by default the user's own.
            scrubber: Removes secrets from all output. It may learn more of them at any time.
        """
        self.connections = 0
        self.scripts = 0
        self._scrubber = scrubber or Scrubber()
        self._program = program or SshProgram()
        # Guards all fields below. Each host also has a lock that is held while connecting to it.
        self._state = threading.Condition()
        self._connecting: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._idle: defaultdict[str, list[RemoteSession]] = defaultdict(list)
        self._logins = threading.BoundedSemaphore(_MAX_LOGINS)
        self._busy: set[RemoteSession] = set()
        self._failures: dict[str, tuple[float, KtrdrError]] = {}
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._closed = threading.Event()
        self._cancel = CancelEvent()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def run(
        self, host: str, script: Secret, *, timeout_s: float, on_line: OnLine | None = None
    ) -> RemoteResult:
        """See `Transport.run`. The time to connect is not part of ``timeout_s``.

        Raises:
            ConfigurationError: ssh does not understand its own configuration.
            Interrupted: Another thread closed or interrupted this transport.
        """
        out = OutputCollector("stdout", self._scrubber, on_line=on_line, sentinel=SENTINEL)
        err = OutputCollector("stderr", self._scrubber, on_line=on_line)
        with self._session(host) as session:
            frame = protocol.subshell_frame(script.reveal())
            result = self._run(session, frame, timeout_s, out, err)
        if result.exit_code == 0 and not out.is_complete:
            raise diagnosis.connection_lost_error(host, "its output is incomplete")
        return result

    def acquire(
        self, host: str, script: Secret, *, timeout_s: float
    ) -> tuple[RemoteResult, _HeldSession]:
        """See `Transport.acquire`."""
        with self._session(host) as session:
            return self._run_inline(session, script, timeout_s), _HeldSession(self, session)

    def connect(self, host: str) -> None:
        """See `Transport.connect`."""
        started = time.monotonic()
        with self._state:
            connecting, cancel = self._connecting[host], self._cancel
        # A thread that waits for the lock finds this session idle, and opens no second one.
        with connecting, self._in_use(self._take_idle(host) or self._open(host, started, cancel)):
            pass

    def interrupt(self) -> None:
        """See `Transport.interrupt`."""
        with self._state:
            cancel, self._cancel = self._cancel, CancelEvent()
        cancel.set()

    def close(self) -> None:
        """Close all connections, which ends the scripts that other threads still run."""
        self._closed.set()
        with self._state:
            idle = [session for sessions in self._idle.values() for session in sessions]
            # Terminate all before waiting for the first. A busy session is closed by its thread.
            for session in (*self._busy, *idle):
                session.terminate()
            for session in idle:
                session.close()
            self._idle.clear()
            if self._directory:
                self._directory.cleanup()
                self._directory = None

    def release(self, session: RemoteSession, script: Secret, timeout_s: float) -> None:
        """Run a script in a session that holds a resource, once the session is idle."""
        with self._state:
            self._state.wait_for(lambda: session not in self._busy)
            self._check_open()
            if session not in self._idle[session.host]:
                raise session.end_error()
            self._idle[session.host].remove(session)
            self._busy.add(session)
        with self._in_use(session):
            self._run_inline(session, script, timeout_s)

    def _run_inline(self, session: RemoteSession, script: Secret, timeout_s: float) -> RemoteResult:
        out = OutputCollector("stdout", self._scrubber, on_line=None)
        err = OutputCollector("stderr", self._scrubber, on_line=None)
        return self._run(session, protocol.inline_frame(script.reveal()), timeout_s, out, err)

    def _run(
        self,
        session: RemoteSession,
        framed_script: bytes,
        timeout_s: float,
        out: OutputCollector,
        err: OutputCollector,
    ) -> RemoteResult:
        with self._state:
            self.scripts += 1
            cancel = self._cancel
        started = time.monotonic()
        try:
            code = session.run(framed_script, timeout_s, (out.feed, err.feed), cancel)
        except TimeoutError as exc:
            raise diagnosis.timeout_error(session.host, timeout_s) from exc
        except SessionEnded:
            if self._closed.is_set():
                raise Interrupted(f"the script on {session.host} was cancelled") from None
            raise session.end_error() from None
        finally:
            out.finish()
            err.finish()
        return RemoteResult(code, out.text, err.text, time.monotonic() - started)

    @contextmanager
    def _session(self, host: str) -> Iterator[RemoteSession]:
        """Provide a session for this thread alone; open one if all others are in use."""
        started = time.monotonic()
        with self._state:
            connecting, cancel = self._connecting[host], self._cancel
        session = self._take_idle(host)
        if session is None:
            with connecting:
                session = self._take_idle(host) or self._open(host, started, cancel)
        with self._in_use(session):
            yield session

    @contextmanager
    def _in_use(self, session: RemoteSession) -> Iterator[None]:
        """Return a busy session to the idle ones after the block, or close it."""
        try:
            yield
        finally:
            with self._state:
                self._busy.discard(session)
                self._state.notify_all()
                is_usable = session.is_alive and not self._closed.is_set()
                if is_usable:
                    self._idle[session.host].append(session)
            if not is_usable:
                session.close()

    def _take_idle(self, host: str) -> RemoteSession | None:
        with self._state:
            self._check_open()
            for session in list(self._idle[host]):
                self._idle[host].remove(session)
                if session.is_alive:
                    self._busy.add(session)
                    return session
                session.close()
        return None

    def _open(self, host: str, started: float, cancel: CancelEvent) -> RemoteSession:
        # Threads that waited for an attempt share its failure, rather than fail one by one.
        failed_at, failure = self._failures.get(host, (0.0, None))
        if failure is not None and failed_at >= started:
            raise failure
        try:
            with self._logins:
                session = RemoteSession(self._program, host, self._new_directory(), cancel)
        except KtrdrError as error:
            self._failures[host] = (time.monotonic(), error)
            raise
        with self._state:
            if not self._closed.is_set():
                self._busy.add(session)
                self.connections += 1
                return session
        session.close()
        raise Interrupted(_CLOSED)

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise Interrupted(_CLOSED)

    def _new_directory(self) -> Path:
        with self._state:
            self._check_open()
            if self._directory is None:
                self._directory = tempfile.TemporaryDirectory(prefix="ktrdr-")
                threading.Thread(
                    target=self._send_heartbeats, name="heartbeats", daemon=True
                ).start()
            return Path(tempfile.mkdtemp(dir=self._directory.name))

    def _send_heartbeats(self) -> None:
        while not self._closed.wait(protocol.HEARTBEAT_INTERVAL_S):
            with self._state:
                for sessions in self._idle.values():
                    for session in sessions:
                        session.send_heartbeat()


@dataclass(frozen=True, slots=True)
class _HeldSession:
    """See `HeldSession`."""

    transport: SshTransport
    session: RemoteSession

    def end_error(self) -> KtrdrError | None:
        return None if self.session.is_alive else self.session.end_error()

    @property
    def was_broken(self) -> bool:
        return self.session.was_killed

    def release(self, script: Secret, *, timeout_s: float) -> None:
        self.transport.release(self.session, script, timeout_s)
