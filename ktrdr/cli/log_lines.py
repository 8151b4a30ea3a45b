"""Shows log lines: aligned and coloured on a terminal, plain anywhere else, or as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click
from rich.text import Text

from ktrdr.cli.render import console
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.logs import HostBack, HostLost, LogEvent, LogLine

_COLOURS: Final = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green")
# A program's log may hold what would set a terminal's colours, title, or worse.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def show(events: Iterable[LogEvent], *, as_json: bool) -> list[HostLost]:
    """Writes lines to standard output and what befell hosts to standard error.

    Returns:
        The hosts that were lost for good.
    """
    lost = []
    # Where all lines are known already, their columns are, too.
    known = events if isinstance(events, Sequence) else ()
    labels = (label(each.host, each.service) for each in known if isinstance(each, LogLine))
    write = _write_json if as_json else _Writer(max(map(len, labels), default=0))
    for event in events:
        if isinstance(event, LogLine):
            write(event)
        else:
            _tell(event)
        if isinstance(event, HostLost) and not event.is_retried:
            lost.append(event)
    return lost


def label(host: Host, service: str) -> str:
    """Where a line comes from, such as ``core/db`` or ``B/backtest-worker-1``."""
    return f"{host.short_name}/{service}"


def _write_json(line: LogLine) -> None:
    click.echo(json.dumps(to_json(line), ensure_ascii=False))


def to_json(line: LogLine) -> dict[str, Any]:
    """The object that ``--json`` writes for a line."""
    return {
        "time": line.timestamp,
        "target": line.host.name,
        "host": line.host.address,
        "service": line.service,
        "container": line.container,
        "text": line.text,
    }


class _Writer:
    """Writes lines for people, and for `grep`."""

    def __init__(self, width: int) -> None:
        self._console = console()
        self._width = width
        self._colours: dict[str, str] = {}

    def __call__(self, line: LogLine) -> None:
        name = label(line.host, line.service)
        if not self._console.is_terminal:
            click.echo(f"{line.timestamp} {name} {line.text}")
            return
        self._width = max(self._width, len(name))
        colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
        time = f"{line.time.astimezone():%H:%M:%S.%f}"[:-3]
        text = Text.assemble(
            (time, "dim"), " ", (name.ljust(self._width), colour), " ", harmless(line.text)
        )
        self._console.print(text, soft_wrap=True)


def harmless(text: str) -> str:
    """The text with control characters shown rather than obeyed."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", _COLOURING.sub("", text))


_COLOURING: Final = re.compile(r"\x1b\[[0-9;]*m")


def _tell(event: HostLost | HostBack) -> None:
    if isinstance(event, HostBack):
        text = Text.assemble(("back: ", "green"), f"{event.host.name} is there again")
    else:
        again = "; trying again until it is back" if event.is_retried else ""
        text = Text.assemble(("lost: ", "red"), f"{event.host.name}: {event.error.message}{again}")
    console(err=True).print(text, soft_wrap=True)
