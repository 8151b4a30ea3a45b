"""Shows a deploy while it runs: one line a step on a terminal, plain lines anywhere else.

All of it goes to standard error; standard output is for the result.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table

from ktrdr.deployment import events
from ktrdr.deployment.events import Event

_TITLE_WIDTH: Final = 32
_SIGNS: Final = {"done": "[green]✓[/]", "failed": "[red]✗[/]", "skipped": "[dim]–[/]"}


class DeployDisplay:
    """An observer of deploys that draws them.

    Attributes:
        verbosity: 0 for steps, 1 for what Compose says as well, 2 for all that hosts write.
    """

    def __init__(self, console: Console, *, verbosity: int = 0) -> None:
        self.verbosity = verbosity
        self._console = console
        self._live: Live | None = None
        self._title = ""
        self._began = 0.0
        self._doing = ""
        self._waits_for = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pause()

    def __call__(self, event: Event) -> None:
        """Shows what happened."""
        match event:
            case events.StepStarted():
                self._start(event.title)
            case events.StepFinished():
                self._end("done", event.title, event.duration_s, event.detail)
            case events.StepFailed():
                self._end("failed", event.title, event.duration_s, "")
            case events.StepSkipped():
                self._line("skipped", event.title, "", event.reason)
            case events.Output():
                self._output(event)
            case events.Waiting():
                self._wait(event.reason)
            case events.Compared():
                self._compared(event)
            case events.LogTail():
                self._log(event)
            case events.Warned():
                self._console.print(
                    f"  [yellow]warning:[/] {escape(event.message)}", soft_wrap=True
                )

    def pause(self) -> None:
        """Takes the moving line away, for a question or at the end."""
        if self._live:
            self._live.stop()
            self._live = None

    def _start(self, title: str) -> None:
        self._title, self._began, self._doing = title, time.monotonic(), ""
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._moving_line,
                console=self._console,
                transient=True,
                refresh_per_second=10,
            )
            self._live.start()

    def _moving_line(self) -> Table:
        line = Table.grid(padding=(0, 1))
        line.add_row(
            Spinner("dots", style="cyan"),
            f"{self._title:<{_TITLE_WIDTH}}",
            f"{time.monotonic() - self._began:6.1f} s ",
            escape(self._doing),
        )
        for column in line.columns[:3]:
            column.no_wrap = True
        line.columns[3].no_wrap = True
        line.columns[3].overflow = "ellipsis"
        return line

    def _end(self, sign: str, title: str, duration_s: float, detail: str) -> None:
        self.pause()
        self._line(sign, title, f"{duration_s:6.1f} s", detail)

    def _line(self, sign: str, title: str, took: str, detail: str) -> None:
        text = f"{_SIGNS[sign]} {title:<{_TITLE_WIDTH}} {took:>8}  [dim]{escape(detail)}[/]"
        self._console.print(text.rstrip(), soft_wrap=True)

    def _output(self, event: events.Output) -> None:
        # What Compose says of its progress; what a script prints is for the program.
        if event.stream == "stderr":
            self._doing = " ".join(event.line.split())
        if self.verbosity >= (1 if event.stream == "stderr" else 2):
            self._console.print(f"  [dim]│ {escape(event.line)}[/]", soft_wrap=True)

    def _wait(self, reason: str) -> None:
        if reason != self._waits_for and not self._console.is_terminal:
            self._console.print(f"    waiting: {escape(reason)}", soft_wrap=True)
        self._doing = self._waits_for = reason

    def _compared(self, event: events.Compared) -> None:
        for change in event.comparison.services:
            if change.reason:
                text = f"{change.service}: {change.action.intention} ({change.reason})"
                self._console.print(f"    [dim]{escape(text)}[/]", soft_wrap=True)
        for file in event.comparison.files:
            self._console.print(f"    [dim]{escape(file)}[/]", soft_wrap=True)

    def _log(self, event: events.LogTail) -> None:
        self._console.print(f"  last lines of {event.service}:")
        for line in event.lines or ("(it wrote nothing)",):
            self._console.print(f"  [dim]│[/] {escape(line)}", soft_wrap=True)
