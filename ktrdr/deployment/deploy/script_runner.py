"""Sends a plan's scripts to its host, tells of them, and remembers what would take them back."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy.events import Observer
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.deploy.steps import UNDO_TIMEOUT_S, Step
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.interface import RemoteResult, Stream, Transport
from ktrdr.errors import Interrupted, KtrdrError
from ktrdr.secret import Secret


@dataclass(slots=True)
class Sender:
    """The way to the host of one plan.

    Attributes:
        plan: What is done there.
        values: The secrets that its scripts need, by name.
        transport: How to reach the host.
        observe: Is told of every step, and of every line that comes back.
        stopping: Set when the operator wants everything to stop: nothing more is sent then.
        clock: The time.
    """

    plan: Plan
    values: Mapping[str, Secret]
    transport: Transport
    observe: Observer
    stopping: threading.Event
    clock: Clock
    _undo: list[Script] = field(default_factory=list)

    def send(self, step: Step) -> RemoteResult:
        """Runs a step's script; see `run`."""
        return self.run(step.script, step.timeout_s)

    def run(
        self, script: Script, timeout_s: float, *, observed: bool = True, even_now: bool = False
    ) -> RemoteResult:
        """Runs a script on the host.

        Args:
            script: What to run.
            timeout_s: After so long it is ended (s).
            observed: Whether its lines are told of.
            even_now: Whether it is sent when everything is to stop, too.

        Raises:
            Interrupted: Everything is to stop.
            HostUnreachable: The host cannot be reached, or the time is up.
        """
        interrupted = Interrupted(f"the deploy of {self.plan.site.name} was interrupted")
        if self.stopping.is_set() and not even_now:
            raise interrupted

        def on_line(stream: Stream, line: str) -> None:
            self.observe(events.Output(stream, line))

        rendered = render(script, self.values)
        try:
            return self.transport.run(
                self.plan.site.host,
                rendered,
                timeout_s=timeout_s,
                on_line=on_line if observed else None,
            )
        except Interrupted as exc:
            raise interrupted from exc

    def may_need_undoing(self, step: Step) -> None:
        """Remembers what takes the step back, should the deploy end before it has settled."""
        if step.undo and step.undo not in self._undo:
            self._undo.append(step.undo)

    def settle(self) -> None:
        """Forgets what would have taken steps back: they have served their end."""
        self._undo.clear()

    def take_back(self) -> None:
        """Takes back what has not settled, the last of it first."""
        while self._undo:
            try:
                self.run(self._undo.pop(), UNDO_TIMEOUT_S, observed=False, even_now=True)
            except (KtrdrError, KeyboardInterrupt):
                # The cause is already on its way to the operator; the next deploy tidies up.
                self._undo.clear()

    @contextmanager
    def timed(self, step: Step) -> Iterator[list[str]]:
        """Tells of a step's beginning and end; what is put into the list is told with the end."""
        began = self.clock.monotonic()
        self.observe(events.StepStarted(step.title, step.host))
        details: list[str] = []
        try:
            yield details
        except BaseException:
            self.observe(events.StepFailed(step.title, self.clock.monotonic() - began))
            raise
        took = self.clock.monotonic() - began
        self.observe(events.StepFinished(step.title, took, "; ".join(details)))
