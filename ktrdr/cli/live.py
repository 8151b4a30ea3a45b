"""Shows deploys while they run: one line a step on a terminal, plain lines anywhere else.

All of it goes to standard error; standard output is for the result. Where there are several hosts,
each line begins with the host's name, and below them moves one line for each that is worked on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy.events import Event

_TITLE_WIDTH: Final = 20
# Once around in a second.
_TURNING: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_SIGNS: Final = {
    "done": ("✓", "green"),
    "failed": ("✗", "red"),
    "skipped": ("–", "dim"),
    "back": ("↶", "yellow"),
}


@dataclass(slots=True)
class _Doing:
    """What one host is at: the step's title, since when, and the latest word of it."""

    title: str
    began: float
    word: str = ""


class DeployDisplay:
    """Observes deploys and draws them; safe to share between threads.

    Attributes:
        verbosity: 0 for steps, 1 for what Compose says as well, 2 for all that hosts write.
    """

    def __init__(self, console: Console, names: Sequence[str] = (), *, verbosity: int = 0) -> None:
        """Draws nothing yet.

        Args:
            console: Where to.
            names: The hosts; the lines of a single one do not begin with its name.
            verbosity: How much to show.
        """
        self.verbosity = verbosity
        self._console = console
        self._margin = max(map(len, names)) + 2 if len(names) > 1 else 0
        self._guard = threading.RLock()
        self._live: Live | None = None
        self._doing: dict[str, _Doing] = {}
        self._waits_for: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pause()

    def show(self, name: str, event: Event) -> None:
        """Draw an event of a host; without a name, of this machine."""
        with self._guard:
            self._show(name, event)

    def pause(self) -> None:
        """Takes the moving lines away, for a question or at the end."""
        with self._guard:
            if self._live:
                self._live.stop()
                self._live = None

    def _show(self, name: str, event: Event) -> None:
        match event:
            case events.StepStarted():
                self._start(name, event.title)
            case events.StepFinished():
                self._end(name, "done", event.title, event.duration_s, event.detail)
            case events.StepFailed():
                self._end(name, "failed", event.title, event.duration_s, "")
            case events.StepSkipped():
                self._line(name, "skipped", event.title, "", event.reason)
            case _:
                self._show_within(name, event)

    def _show_within(self, name: str, event: Event) -> None:
        """What is told within a step, and of it."""
        match event:
            case events.Output():
                self._output(name, event)
            case events.Waiting():
                self._wait(name, event.reason)
            case events.Compared():
                self._compared(name, event)
            case events.LogTail():
                self._log(name, event)
            case events.Warned():
                self._note(name, Text.assemble(("warning: ", "yellow"), event.message))
            case events.HookOutput():
                self._note(name, Text.assemble((f"{event.hook}: ", "dim"), event.line))
            case events.Restoring():
                self._note(name, Text(event.reason, style="red"))
                self._line(name, "back", "go back", "", f"to {event.entry.tag}, which ran before")

    # ------------------------------------------------------------------------- the moving lines

    def _start(self, name: str, title: str) -> None:
        self._doing[name] = _Doing(title, time.monotonic())
        if self._console.is_terminal and self._live is None:
            self._live = Live(
                get_renderable=self._moving,
                console=self._console,
                transient=True,
                refresh_per_second=10,
            )
            self._live.start()

    def _moving(self) -> Group:
        # rich asks under a lock of its own, which whoever holds ours waits for while printing: so
        # ours must not be taken here, and the copy is made in one go.
        return Group(*(self._moving_line(name, at) for name, at in list(self._doing.items())))

    def _moving_line(self, name: str, at: _Doing) -> Text:
        now = time.monotonic()
        turning = _TURNING[int(now * len(_TURNING)) % len(_TURNING)]
        line = self._beginning(name).append(turning, style="cyan")
        line.append(f" {at.title:<{_TITLE_WIDTH}} {now - at.began:6.1f} s  ")
        line.append(at.word, style="dim")
        # One text, and no table: that would take the room for the last word from all the others.
        line.no_wrap, line.overflow = True, "ellipsis"
        return line

    # -------------------------------------------------------------------------- the lines that stay

    def _end(self, name: str, sign: str, title: str, duration_s: float, detail: str) -> None:
        self._doing.pop(name, None)
        self._line(name, sign, title, f"{duration_s:6.1f} s", detail)
        if not self._doing:
            self.pause()

    def _line(self, name: str, sign: str, title: str, took: str, detail: str) -> None:
        mark, style = _SIGNS[sign]
        line = self._beginning(name)
        line.append(f"{mark} ", style=style).append(f"{title:<{_TITLE_WIDTH}} {took:>8}  ")
        self._print(line.append(detail, style="dim"), cut=True)

    def _note(self, name: str, text: Text) -> None:
        self._print(self._beginning(name).append("  ").append_text(text))

    def _beginning(self, name: str) -> Text:
        return Text().append(f"{name:<{self._margin}}" if self._margin else "", style="bold")

    def _print(self, line: Text, *, cut: bool = False) -> None:
        line.rstrip()
        if cut and self._console.is_terminal:
            self._console.print(line, no_wrap=True, overflow="ellipsis", crop=True)
        else:
            # A terminal would break in mid-word; anything else gets each line whole.
            self._console.print(line, soft_wrap=not self._console.is_terminal)

    def _output(self, name: str, event: events.Output) -> None:
        # What Compose says of its progress; what a script prints is for the program.
        if event.stream == "stderr" and name in self._doing:
            self._doing[name].word = " ".join(event.line.split())
        if self.verbosity >= (1 if event.stream == "stderr" else 2):
            self._note(name, Text(f"│ {event.line}", style="dim"))

    def _wait(self, name: str, reason: str) -> None:
        if reason != self._waits_for.get(name) and not self._console.is_terminal:
            self._note(name, Text(f"  waiting: {reason}"))
        self._waits_for[name] = reason
        if name in self._doing:
            self._doing[name].word = reason

    def _compared(self, name: str, event: events.Compared) -> None:
        for change in event.comparison.services:
            if change.reason:
                text = f"{change.service}: {change.action.planned_label} ({change.reason})"
                self._note(name, Text(f"  {text}", style="dim"))
        for file in event.comparison.files:
            self._note(name, Text(f"  {file}", style="dim"))

    def _log(self, name: str, event: events.LogTail) -> None:
        self._note(name, Text(f"last lines of {event.service}:"))
        for line in event.lines or ("(it wrote nothing)",):
            self._note(name, Text.assemble(("│ ", "dim"), line))
