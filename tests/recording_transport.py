"""Transport for tests: it reaches no host, gives prepared answers, and records all scripts."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from ktrdr.deployment.scripts.script import SENTINEL
from ktrdr.deployment.ssh import diagnosis
from ktrdr.deployment.ssh.interface import OnLine, RemoteResult
from ktrdr.deployment.ssh.output import OutputCollector
from ktrdr.errors import Interrupted, KtrdrError
from ktrdr.secret import Scrubber, Secret


@dataclass(frozen=True, slots=True)
class Answer:
    """Prepared answer of a host to a script.

    Attributes:
        exit_code: Exit code of the script.
        stdout: Standard output, without the sentinel.
        stderr: Standard error.
        duration_s: Reported duration; above the script's timeout it counts as a timeout.
        complete: True if a script that ends with 0 came to its last line.
        error: Error that is raised instead: the host cannot be reached.
        stays: True if the script keeps running after its output, until it is interrupted.
    """

    exit_code: int = 0
    stdout: str = ""
    stderr: str = ""
    duration_s: float = 0.0
    complete: bool = True
    error: KtrdrError | None = None
    stays: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """Record of a call of `RecordingTransport.run` or `RecordingTransport.acquire`."""

    host: str
    script: Secret
    timeout_s: float


@dataclass(frozen=True, slots=True)
class _Rule:
    host: str | None
    containing: str
    answers: deque[Answer]

    def matches(self, host: str, script: str) -> bool:
        return self.host in (None, host) and self.containing in script

    def next_answer(self) -> Answer:
        return self.answers.popleft() if len(self.answers) > 1 else self.answers[0]


class RecordingTransport:
    """Transport that runs nothing. It passes the same contract tests as `SshTransport`.

    Attributes:
        runs: Recorded calls, in order; a test may reveal the scripts.
        connections: Number of hosts that were reached.
        scripts: Number of scripts that hosts were given.
        released: True if the shells that hold resources were ended on their hosts.
    """

    def __init__(self, *, scrubber: Scrubber | None = None) -> None:
        self.runs: list[Run] = []
        self.released = False
        self._closed = threading.Event()
        self._cancel = threading.Event()
        self._scrubber = scrubber or Scrubber()
        self._rules: list[_Rule] = []
        self._reached: set[str] = set()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    @property
    def connections(self) -> int:
        return len(self._reached)

    @property
    def scripts(self) -> int:
        return sum(run.host in self._reached for run in self.runs)

    def answer(self, *answers: Answer, host: str | None = None, containing: str = "") -> None:
        """Prepare answers. A script without a prepared answer ends with 0 and no output.

        Of several rules that match, the latest counts.

        Args:
            answers: Given one after the other; the last one is repeated.
            host: The host that answers so; by default any.
            containing: Text that the script contains.
        """
        self._rules.insert(0, _Rule(host, containing, deque(answers)))

    def run(
        self,
        host: str,
        script: Secret,
        *,
        timeout_s: float,
        on_line: OnLine | None = None,
    ) -> RemoteResult:
        """See `Transport.run`."""
        if self.closed:
            raise Interrupted("the connections to the hosts were closed")
        self.runs.append(Run(host, script, timeout_s))
        text = script.reveal()
        rule = next((rule for rule in self._rules if rule.matches(host, text)), None)
        answer = rule.next_answer() if rule else Answer()
        if answer.error:
            raise answer.error
        self._reached.add(host)
        return self._play(host, answer, timeout_s, on_line)

    def connect(self, host: str) -> None:
        """Do nothing: a host that cannot be reached says so in its first answer."""

    def acquire(
        self, host: str, script: Secret, *, timeout_s: float
    ) -> tuple[RemoteResult, RecordedHeldSession]:
        """See `Transport.acquire`."""
        return self.run(host, script, timeout_s=timeout_s), RecordedHeldSession(self, host)

    def interrupt(self) -> None:
        """End the scripts that keep running."""
        cancel, self._cancel = self._cancel, threading.Event()
        cancel.set()

    def close(self) -> None:
        """End them, and refuse later ones."""
        self._closed.set()
        self.interrupt()

    def _play(
        self, host: str, answer: Answer, timeout_s: float, on_line: OnLine | None
    ) -> RemoteResult:
        out = OutputCollector("stdout", self._scrubber, on_line=on_line, sentinel=SENTINEL)
        err = OutputCollector("stderr", self._scrubber, on_line=on_line)
        out.feed(answer.stdout.encode())
        err.feed(answer.stderr.encode())
        if answer.stays:
            self._cancel.wait(timeout_s)
            raise Interrupted(f"the script on {host} was cancelled")
        if answer.duration_s > timeout_s:
            raise diagnosis.timeout_error(host, timeout_s)
        if answer.exit_code == 0 and answer.complete:
            out.feed(f"{SENTINEL}\n".encode())
        out.finish()
        err.finish()
        if answer.exit_code == 0 and not out.is_complete:
            raise diagnosis.connection_lost_error(host, "its output is incomplete")
        return RemoteResult(answer.exit_code, out.text, err.text, answer.duration_s)


@dataclass(frozen=True, slots=True)
class RecordedHeldSession:
    """Session that `RecordingTransport.acquire` returns."""

    transport: RecordingTransport
    host: str

    def end_error(self) -> KtrdrError | None:
        """See `HeldSession.end_error`."""
        return diagnosis.killed_error(self.host) if self.was_broken else None

    @property
    def was_broken(self) -> bool:
        """See `HeldSession.was_broken`."""
        return self.transport.released

    def release(self, script: Secret, *, timeout_s: float) -> None:
        """See `HeldSession.release`."""
        self.transport.run(self.host, script, timeout_s=timeout_s)
