"""One shell on one host, over one ssh process, in which scripts run one after the other."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import selectors
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final

from ktrdr.deployment.ssh import diagnosis
from ktrdr.deployment.ssh import protocol as frame
from ktrdr.deployment.ssh.cancel_event import Bell
from ktrdr.deployment.ssh.program import SshProgram
from ktrdr.errors import Interrupted, KtrdrError

# A name may have several addresses, each of which is tried; then comes the login.
_ATTEMPTS: Final = 3
_CHUNK: Final = 65536
# What ssh exits with for faults of its own, and for a shell that a signal has ended.
_SSH_FAILED: Final = 255
# How long a script may take to end when it is told to, and how often it is told.
_ENDING_S: Final = frame.GRACE_S + 2.0
_TELL_EVERY_S: Final = 0.5
_EXIT_S: Final = 1.0

# The one thing that ssh says on the script's own standard error, last of all.
_FAREWELL: Final = re.compile(rb"^Connection to [^\r\n]*\r?\n?\Z", re.MULTILINE)
_CLOSED: Final = re.compile(rb"Connection to \S+ closed by remote host\.")

Feed = Callable[[bytes], None]


class Broken(Exception):
    """The shell has ended before the script had."""


class Shell:
    """A shell that waits for scripts; one at a time.

    Nothing of it outlives this process, however that dies: the shell ends with its input.

    Attributes:
        host: The name it was reached by.
    """

    def __init__(
        self, program: SshProgram, host: str, directory: Path, bell: Bell | None = None
    ) -> None:
        """Connects, logs in, and starts the shell.

        Args:
            program: How to call ssh.
            host: A name as ssh understands it.
            directory: An empty private directory, for the messages of ssh.
            bell: Ends the attempt when it rings.

        Raises:
            Interrupted: The bell rang.
            HostUnreachable: It did not come about; the message says why.
            ConfigurationError: ssh does not understand its own configuration.
        """
        self.host = host
        self._log = directory / "log"
        self._log.touch()
        self._farewell = ""
        self._mark = f"ktrdr-{secrets.token_hex(16)}"
        self._process = program.start(host, "-E", str(self._log), command="exec sh -s")
        os.set_blocking(_opened(self._process.stdin).fileno(), False)
        heard: list[bytes] = []
        self._begin(frame.opening(self._mark), [heard.append, heard.append])
        try:
            self._talk(program.connect_timeout_s * _ATTEMPTS, bell)
        except Broken:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_EXIT_S)
            self.close()
            raise self._refusal(b"".join(heard)) from None
        except TimeoutError:
            self.close()
            raise diagnosis.connection_fault(host, "the login timed out") from None
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether it still stands, as far as this end knows."""
        return self._process.poll() is None

    def run(
        self, script: bytes, timeout_s: float, feeds: Sequence[Feed], bell: Bell | None = None
    ) -> int:
        """Runs a framed script to its end, and returns its exit code.

        Args:
            script: As `frame.apart` or `frame.within` makes it.
            timeout_s: After so long it is ended (s).
            feeds: What takes its standard output, and its standard error.
            bell: Ends it when it rings.

        Raises:
            TimeoutError: The time was up.
            Interrupted: The bell rang.
            Broken: The shell, or the connection, ended.
        """
        self._begin(script, feeds)
        try:
            return self._talk(timeout_s, bell)
        except Broken:
            raise
        except BaseException:
            # Ctrl-C too: whatever runs on the host must not outlive this call.
            self._end()
            raise

    def beat(self) -> None:
        """Tells a shell in which nothing runs that this end is there."""
        # One that takes nothing more has not heard for long, or has ended.
        with contextlib.suppress(OSError, ValueError):
            os.write(_opened(self._process.stdin).fileno(), frame.BEAT)

    def cause_of_death(self) -> KtrdrError:
        """What has ended it, once it has."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_EXIT_S)
        log = self._said()
        return diagnosis.connection_lost(self.host, log) if log else diagnosis.killed(self.host)

    @property
    def was_killed(self) -> bool:
        """Whether somebody on the host has ended it, rather than broken the connection."""
        return not self.alive and not self._said()

    def hang_up(self) -> None:
        """Tells it to end, without waiting for that."""
        if self.alive:
            self._process.terminate()

    def close(self) -> None:
        """Ends it, and with it whatever runs in it."""
        if self.alive:
            self._process.terminate()
            try:
                self._process.wait(_EXIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            _opened(pipe).close()

    def _begin(self, script: bytes, feeds: Sequence[Feed]) -> None:
        pipes = (_opened(self._process.stdout), _opened(self._process.stderr))
        self._unsent = memoryview(script)
        self._ended: set[int] = set()
        self._outputs = {
            pipe.fileno(): _Marked(self._mark, feed)
            for pipe, feed in zip(pipes, feeds, strict=True)
        }

    def _talk(self, timeout_s: float, bell: Bell | None = None) -> int:
        """Sends what is to be sent, and reads until both outputs have come to the mark."""
        outputs = self._outputs
        deadline = time.monotonic() + timeout_s
        next_beat = time.monotonic() + frame.BEAT_EVERY_S
        with selectors.DefaultSelector() as selector:
            for descriptor in outputs.keys() - self._ended:
                selector.register(descriptor, selectors.EVENT_READ)
            if bell:
                selector.register(bell, selectors.EVENT_READ)
            self._want_to_send(selector)
            while not all(output.complete for output in outputs.values()):
                now = time.monotonic()
                if now >= deadline:
                    raise TimeoutError
                if now >= next_beat:
                    next_beat = now + frame.BEAT_EVERY_S
                    self._tell(frame.BEAT, selector)
                for key, _ in selector.select(min(deadline, next_beat) - now):
                    if key.fileobj is bell:
                        raise Interrupted("the script was ended")
                    if key.fileobj is self._process.stdin:
                        self._send(selector)
                    else:
                        self._receive(key.fd, selector)
        return max(output.code for output in outputs.values())

    def _end(self) -> None:
        """Ends the script, and if that does not help, the shell."""
        # Of a script that was not sent whole nothing runs, and nothing else can be said any more.
        deadline = time.monotonic() + (0 if self._unsent else _ENDING_S)
        while time.monotonic() < deadline:
            # What it is told right behind the script, the shell itself may take for a command.
            self._unsent = memoryview(frame.END)
            with contextlib.suppress(TimeoutError):
                try:
                    self._talk(_TELL_EVERY_S)
                except Broken:
                    break
                return
        self.close()

    def _tell(self, line: bytes, selector: selectors.BaseSelector) -> None:
        if not self._unsent:
            self._unsent = memoryview(line)
            self._want_to_send(selector)

    def _want_to_send(self, selector: selectors.BaseSelector) -> None:
        if self._unsent:
            selector.register(_opened(self._process.stdin), selectors.EVENT_WRITE)

    def _send(self, selector: selectors.BaseSelector) -> None:
        pipe = _opened(self._process.stdin)
        try:
            self._unsent = self._unsent[os.write(pipe.fileno(), self._unsent[:_CHUNK]) :]
        except BrokenPipeError:
            self._unsent = self._unsent[:0]
        if not self._unsent:
            selector.unregister(pipe)

    def _receive(self, descriptor: int, selector: selectors.BaseSelector) -> None:
        if data := os.read(descriptor, _CHUNK):
            self._outputs[descriptor].take(data)
            return
        selector.unregister(descriptor)
        self._ended.add(descriptor)
        self._farewell += self._outputs[descriptor].finish()
        # Both end when ssh does, which may say why in between.
        if all(each in self._ended or it.complete for each, it in self._outputs.items()):
            raise Broken

    def _refusal(self, heard: bytes) -> KtrdrError:
        said = heard.decode("utf-8", "replace") + self._said()
        if self._process.returncode == _SSH_FAILED:
            return diagnosis.connection_fault(self.host, said)
        return diagnosis.no_shell(self.host, said)

    def _said(self) -> str:
        """What ssh has said of its end; the directory may be gone when it was closed."""
        try:
            log = self._log.read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            return "it was closed"
        if not log and (code := self._process.poll() or 0) < 0:
            return f"ssh was ended here by signal {-code}"
        return log or self._farewell


class _Marked:
    """One output of a script, up to the mark.

    Attributes:
        complete: Whether the mark has come.
        code: The exit code behind it, if there is one.
    """

    def __init__(self, mark: str, feed: Feed) -> None:
        self.complete = False
        self.code = 0
        self._mark = mark.encode()
        self._pattern = re.compile(re.escape(self._mark) + rb"(?: (\d+))?\n")
        self._feed = feed
        self._held = b""

    def take(self, data: bytes) -> None:
        """Takes the next bytes."""
        held = self._held + data
        if found := self._pattern.search(held):
            self.complete, self.code = True, int(found[1] or 0)
            self._held = held[found.end() :]
            self._feed(held[: found.start()])
            return
        keep = self._begun_at(held)
        self._held = held[keep:]
        self._feed(held[:keep])

    def finish(self) -> str:
        """Passes on what is left, when nothing more will come, but for ssh's farewell."""
        left, self._held = self._held, b""
        if found := _CLOSED.match(left):
            return found[0].decode("utf-8", "replace")
        self._feed(left)
        return ""

    def _begun_at(self, data: bytes) -> int:
        """Where the mark may have begun, with the rest of it still to come; or a farewell."""
        if farewell := _FAREWELL.search(data):
            return farewell.start()
        at = data.find(self._mark)
        if at >= 0:
            return at
        lengths = range(min(len(self._mark) - 1, len(data)), 0, -1)
        fits = (length for length in lengths if self._mark.startswith(data[-length:]))
        return len(data) - next(fits, 0)


def _opened(pipe: IO[bytes] | None) -> IO[bytes]:
    """The pipe of a process that was started with one."""
    if pipe is None:
        raise ValueError("the process was started without this pipe")
    return pipe
