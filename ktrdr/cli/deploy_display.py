"""Live display of deploys: a line for each step, and a moving line for each busy host.

The moving lines are drawn on a terminal only. Everything goes to standard error, because standard
output is for the result. With several hosts, each line begins with the host's name.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy.events import Event

_TITLE_WIDTH: Final = 20
# One turn per second.
_SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_MARKS: Final = {
    "done": ("✓", "green"),
    "failed": ("✗", "red"),
    "skipped": ("–", "dim"),
    "rollback": ("↶", "yellow"),
}


@dataclass(slots=True)
class _ActiveStep:
    title: str
    started: float
    detail: str = ""


class DeployDisplay:
    """Observer that draws deploys; safe to share between threads.

    Attributes:
        verbosity: 0 for steps, 1 to add Compose's output, 2 to add all output of hosts.
    """

    def __init__(self, console: Console, names: Sequence[str] = (), *, verbosity: int = 0) -> None:
        """Create a display without drawing anything.

        Args:
            console: Console to draw on.
            names: Names of the hosts. Lines of a single host do not begin with its name.
            verbosity: Amount of output.
        """
        self.verbosity = verbosity
        self._console = console
        self._margin = max(map(len, names)) + 2 if len(names) > 1 else 0
        self._lock = threading.RLock()
        self._live: Live | None = None
        self._active: dict[str, _ActiveStep] = {}
        self._wait_reasons: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.pause()

    def show(self, name: str, event: Event) -> None:
        """Draw an event of a host; without a name, of this machine."""
        with self._lock:
            self._show(name, event)

    def pause(self) -> None:
        """Remove the moving lines, for a question or at the end."""
        with self._lock:
            if self._live:
                self._live.stop()
                self._live = None

    def _show(self, name: str, event: Event) -> None:
        match event:
            case events.StepStarted():
                self._start_step(name, event.title)
            case events.StepFinished():
                self._end_step(name, "done", event.title, event.duration_s, event.detail)
            case events.StepFailed():
                self._end_step(name, "failed", event.title, event.duration_s, "")
            case events.StepSkipped():
                self._print_step(name, "skipped", event.title, "", event.reason)
            case _:
                self._show_detail(name, event)

    def _show_detail(self, name: str, event: Event) -> None:
        """Show an event that happens during a step."""
        match event:
            case events.Output():
                self._show_output(name, event)
            case events.Waiting():
                self._show_wait(name, event.reason)
            case events.Compared():
                self._show_changes(name, event)
            case events.LogTail():
                self._show_log(name, event)
            case events.Warned():
                self._print_note(name, Text.assemble(("warning: ", "yellow"), event.message))
            case events.HookOutput():
                self._print_note(name, Text.assemble((f"{event.hook}: ", "dim"), event.line))
            case events.BatchStarted():
                text = f"batch {event.number} of {event.total}: {', '.join(event.hosts)}"
                self._print(Text(text, style="bold"))
            case events.RollbackStarted():
                self._print_note(name, Text(event.reason, style="red"))
                detail = f"to {event.entry.tag}, the last good release"
                self._print_step(name, "rollback", "roll back", "", detail)

    # --------------------------------------------------------------------------- moving lines

    def _start_step(self, name: str, title: str) -> None:
        self._active[name] = _ActiveStep(title, time.monotonic())
        if self._console.is_terminal and self._live is None:
            self._live = Live(
                get_renderable=self._render_active,
                console=self._console,
                transient=True,
                refresh_per_second=10,
            )
            self._live.start()

    def _render_active(self) -> Group:
        # rich calls this under its own lock. A thread that holds our lock waits for rich's while it
        # prints. Taking ours here would be a deadlock; list() makes the copy in one operation.
        return Group(*(self._render_step(name, step) for name, step in list(self._active.items())))

    def _render_step(self, name: str, step: _ActiveStep) -> Text:
        now = time.monotonic()
        spinner = _SPINNER[int(now * len(_SPINNER)) % len(_SPINNER)]
        line = self._prefix(name).append(spinner, style="cyan")
        line.append(f" {step.title:<{_TITLE_WIDTH}} {now - step.started:6.1f} s  ")
        line.append(step.detail, style="dim")
        # A table would take the room of a long detail from the other columns.
        line.no_wrap, line.overflow = True, "ellipsis"
        return line

    # ------------------------------------------------------------------------ permanent lines

    def _end_step(self, name: str, mark: str, title: str, duration_s: float, detail: str) -> None:
        self._active.pop(name, None)
        self._print_step(name, mark, title, f"{duration_s:6.1f} s", detail)
        if not self._active:
            self.pause()

    def _print_step(self, name: str, mark: str, title: str, took: str, detail: str) -> None:
        symbol, style = _MARKS[mark]
        line = self._prefix(name)
        line.append(f"{symbol} ", style=style).append(f"{title:<{_TITLE_WIDTH}} {took:>8}  ")
        self._print(line.append(detail, style="dim"), is_cut=True)

    def _print_note(self, name: str, text: Text) -> None:
        self._print(self._prefix(name).append("  ").append_text(text))

    def _prefix(self, name: str) -> Text:
        return Text().append(f"{name:<{self._margin}}" if self._margin else "", style="bold")

    def _print(self, line: Text, *, is_cut: bool = False) -> None:
        line.rstrip()
        if is_cut and self._console.is_terminal:
            self._console.print(line, no_wrap=True, overflow="ellipsis", crop=True)
        else:
            # rich breaks lines between words for a terminal. A pipe or file gets them whole.
            self._console.print(line, soft_wrap=not self._console.is_terminal)

    def _show_output(self, name: str, event: events.Output) -> None:
        # Compose reports progress on standard error. Standard output is for this program.
        if event.stream == "stderr" and name in self._active:
            self._active[name].detail = " ".join(event.line.split())
        if self.verbosity >= (1 if event.stream == "stderr" else 2):
            self._print_note(name, Text(f"│ {event.line}", style="dim"))

    def _show_wait(self, name: str, reason: str) -> None:
        if reason != self._wait_reasons.get(name) and not self._console.is_terminal:
            self._print_note(name, Text(f"  waiting: {reason}"))
        self._wait_reasons[name] = reason
        if name in self._active:
            self._active[name].detail = reason

    def _show_changes(self, name: str, event: events.Compared) -> None:
        for change in event.comparison.services:
            if change.reason:
                text = f"{change.service}: {change.action.planned_label} ({change.reason})"
                self._print_note(name, Text(f"  {text}", style="dim"))
        for file in event.comparison.files:
            self._print_note(name, Text(f"  {file}", style="dim"))

    def _show_log(self, name: str, event: events.LogTail) -> None:
        self._print_note(name, Text(f"last lines of {event.service}:"))
        for line in event.lines or ("(no output)",):
            self._print_note(name, Text.assemble(("│ ", "dim"), line))
