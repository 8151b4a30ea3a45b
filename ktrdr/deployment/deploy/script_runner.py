"""Runner of a plan's scripts on its host, which reports them and keeps how to undo them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy.events import Observer
from ktrdr.deployment.deploy.plan import UNDO_TIMEOUT_S, Step
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.lock import HostLock, lock_lost_error
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.interface import RemoteResult, Stream, Transport
from ktrdr.errors import Interrupted, KtrdrError
from ktrdr.secret import Secret


@dataclass(slots=True)
class ScriptRunner:
    """Runner of scripts on one host.

    Attributes:
        host: The host.
        lock: Its lock, which the deploy holds.
        values: Secrets that the scripts export, by name.
        transport: Connection to the host.
        observe: Receives each step, and each line of output.
        stopping: Set when the operator interrupts the deploy; no further script is sent then.
        clock: The time.
    """

    host: Host
    lock: HostLock
    values: Mapping[str, Secret]
    transport: Transport
    observe: Observer
    stopping: threading.Event
    clock: Clock
    _undo: list[Script] = field(default_factory=list)

    def run(
        self,
        script: Script,
        timeout_s: float,
        *,
        observed: bool = True,
        ignore_stop: bool = False,
    ) -> RemoteResult:
        """Run a script on the host.

        Args:
            script: The script.
            timeout_s: Time after which it is ended (s).
            observed: Whether its output is reported.
            ignore_stop: Whether it is also sent after an interruption.

        Raises:
            Interrupted: The operator interrupts the deploy.
            HostUnreachable: The host cannot be reached, or the script took too long.
        """
        if self.stopping.is_set() and not ignore_stop:
            raise self._interrupted()

        def on_line(stream: Stream, line: str) -> None:
            self.observe(events.Output(stream, line))

        try:
            return self.transport.run(
                self.host.address,
                render(script, self.values),
                timeout_s=timeout_s,
                on_line=on_line if observed else None,
            )
        except Interrupted as exc:
            raise self._interrupted() from exc

    def query(self, script: Script, timeout_s: float, *, observed: bool = True) -> RemoteResult:
        """Run a script that only reads, unless the lock was released to another deploy.

        Raises:
            Locked: The lock was released.
            KtrdrError: See `run`.
        """
        if self.lock.was_broken:
            raise lock_lost_error(self.host)
        return self.run(script, timeout_s, observed=observed)

    def push_undo(self, step: Step) -> None:
        """Remember how to undo a step, in case the deploy ends before `commit`."""
        if step.undo and step.undo not in self._undo:
            self._undo.append(step.undo)

    def commit(self) -> None:
        """Forget how to undo the steps so far: they have taken effect."""
        self._undo.clear()

    def undo_all(self) -> None:
        """Undo the steps since the last `commit`, latest first."""
        while self._undo:
            try:
                self.run(self._undo.pop(), UNDO_TIMEOUT_S, observed=False, ignore_stop=True)
            except (KtrdrError, KeyboardInterrupt):
                # The deploy already fails with the cause. The next deploy cleans up.
                self._undo.clear()

    @contextmanager
    def report(self, step: Step) -> Iterator[list[str]]:
        """Report a step's start and end, with the details that the block appends to the list."""
        began = self.clock.monotonic()
        self.observe(events.StepStarted(step.title, step.host))
        details: list[str] = []
        try:
            yield details
        except BaseException:
            self.observe(events.StepFailed(step.title, self.clock.monotonic() - began))
            raise
        took_s = self.clock.monotonic() - began
        self.observe(events.StepFinished(step.title, took_s, "; ".join(details)))

    def _interrupted(self) -> Interrupted:
        return Interrupted(f"the deploy of {self.host.name} was interrupted")
