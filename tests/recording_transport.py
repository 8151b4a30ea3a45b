"""A transport for tests: it reaches no host, answers as told, and remembers what it was given."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from ktrdr.deployment.scripts.script import SENTINEL
from ktrdr.deployment.ssh import diagnosis
from ktrdr.deployment.ssh.interface import OnLine, RemoteResult
from ktrdr.deployment.ssh.output import Output
from ktrdr.errors import Interrupted, KtrdrError
from ktrdr.secret import Scrubber, Secret


@dataclass(frozen=True, slots=True)
class Answer:
    """What a host does with a script.

    Attributes:
        exit_code: What the script ends with.
        stdout: What it prints, without the sentinel.
        stderr: What it complains about.
        duration_s: How long it says it took; past the time allowed it counts as ended for it.
        complete: Whether a script that ends with 0 came to its last line.
        error: What is raised instead: the host cannot be reached.
        stays: Whether the script goes on after what it prints, until it is interrupted.
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
    """One call of `RecordingTransport.run` or `RecordingTransport.hold`."""

    host: str
    script: Secret
    timeout_s: float


@dataclass(frozen=True, slots=True)
class _Rule:
    host: str | None
    containing: str
    answers: deque[Answer]

    def fits(self, host: str, script: str) -> bool:
        return self.host in (None, host) and self.containing in script

    def next_answer(self) -> Answer:
        return self.answers.popleft() if len(self.answers) > 1 else self.answers[0]


class RecordingTransport:
    """Runs nothing; held to the same contract tests as `SshTransport`.

    Attributes:
        runs: What was given, in order; a test may reveal the scripts.
        connections: How many hosts were spoken to.
        scripts: How many scripts were given.
        released: Whether somebody on the hosts has ended what holds anything.
    """

    def __init__(self, *, scrubber: Scrubber | None = None) -> None:
        self.runs: list[Run] = []
        self.released = False
        self._end = threading.Event()
        self._rung = threading.Event()
        self._scrubber = scrubber or Scrubber()
        self._rules: list[_Rule] = []
        self._reached: set[str] = set()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._end.is_set()

    @property
    def connections(self) -> int:
        """How many hosts were reached."""
        return len(self._reached)

    @property
    def scripts(self) -> int:
        """How many scripts they were given."""
        return sum(run.host in self._reached for run in self.runs)

    def answer(self, *answers: Answer, host: str | None = None, containing: str = "") -> None:
        """Tells how to answer; what no rule fits ends well and silently.

        Args:
            answers: Given one after the other; the last one again and again.
            host: The host that answers so; by default any.
            containing: Text that the script holds.

        Of several rules that fit, the one told last is taken.
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
        fitting = (rule for rule in self._rules if rule.fits(host, text))
        rule = next(fitting, None)
        answer = rule.next_answer() if rule else Answer()
        if answer.error:
            raise answer.error
        self._reached.add(host)
        return self._play(host, answer, timeout_s, on_line)

    def connect(self, host: str) -> None:
        """Does nothing: whether a host can be reached is told by its first answer."""

    def hold(
        self, host: str, lines: Secret, *, timeout_s: float
    ) -> tuple[RemoteResult, RecordedGrip]:
        """See `Transport.hold`."""
        return self.run(host, lines, timeout_s=timeout_s), RecordedGrip(self, host)

    def interrupt(self) -> None:
        """Ends the scripts that stay."""
        rung, self._rung = self._rung, threading.Event()
        rung.set()

    def close(self) -> None:
        """The same, for good."""
        self._end.set()
        self.interrupt()

    def _play(
        self, host: str, answer: Answer, timeout_s: float, on_line: OnLine | None
    ) -> RemoteResult:
        out = Output("stdout", self._scrubber, on_line=on_line, sentinel=SENTINEL)
        err = Output("stderr", self._scrubber, on_line=on_line)
        out.feed(answer.stdout.encode())
        err.feed(answer.stderr.encode())
        if answer.stays:
            self._rung.wait(timeout_s)
            raise Interrupted(f"the script on {host} was ended")
        if answer.duration_s > timeout_s:
            raise diagnosis.too_slow(host, timeout_s)
        if answer.exit_code == 0 and answer.complete:
            out.feed(f"{SENTINEL}\n".encode())
        out.finish()
        err.finish()
        if answer.exit_code == 0 and not out.complete:
            raise diagnosis.cut_short(host)
        return RemoteResult(answer.exit_code, out.text, err.text, answer.duration_s)


@dataclass(frozen=True, slots=True)
class RecordedGrip:
    """What `RecordingTransport.hold` gives."""

    transport: RecordingTransport
    host: str

    def lost(self) -> KtrdrError | None:
        """See `Grip.lost`."""
        return diagnosis.killed(self.host) if self.was_released else None

    @property
    def was_released(self) -> bool:
        """See `Grip.was_released`."""
        return self.transport.released

    def let_go(self, lines: Secret, *, timeout_s: float) -> None:
        """See `Grip.let_go`."""
        self.transport.run(self.host, lines, timeout_s=timeout_s)
