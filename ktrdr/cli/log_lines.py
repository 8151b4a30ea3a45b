"""Output of service logs: aligned and coloured on a terminal, plain elsewhere, or as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich.text import Text

from ktrdr.cli.render import console, write_json_line, write_line
from ktrdr.deployment.logs import HostBack, HostLost, LogEvent, LogLine

_COLOURS: Final = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green")
_COLOUR_SEQUENCE: Final = re.compile(r"\x1b\[[0-9;]*m")
# Control characters of a program's log could set a terminal's colours, title, or worse.
_CONTROL_CHARACTER: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def write_log(events: Iterable[LogEvent], *, as_json: bool, raw: bool = False) -> list[HostLost]:
    """Write log lines to standard output, and lost connections to standard error.

    Returns:
        The events of connections that were lost and are not retried.
    """
    lost = []
    # If all lines are known, so is the width of the widest label.
    known = events if isinstance(events, Sequence) else ()
    labels = (format_source(event) for event in known if isinstance(event, LogLine))
    writer = _LineWriter(max(map(len, labels), default=0), raw=raw)
    for event in events:
        if isinstance(event, LogLine) and as_json:
            write_json_line(line_to_json(event))
        elif isinstance(event, LogLine):
            writer.write(event)
        else:
            _write_connection_event(event)
        if isinstance(event, HostLost) and not event.is_retried:
            lost.append(event)
    return lost


def format_source(line: LogLine) -> str:
    """Return the origin of a line, such as ``core/db`` or ``B/backtest-worker-1``."""
    return f"{line.host.node or 'core'}/{line.service}"


def line_to_json(line: LogLine) -> dict[str, Any]:
    """Return a log line for JSON output."""
    return {
        "time": line.timestamp,
        "target": line.host.name,
        "host": line.host.address,
        "service": line.service,
        "container": line.container,
        "text": line.text,
    }


class _LineWriter:
    """Writer of lines for people and for `grep`."""

    def __init__(self, width: int, *, raw: bool) -> None:
        self._console = console()
        self._raw = raw
        self._width = width
        self._colours: dict[str, str] = {}

    def write(self, line: LogLine) -> None:
        source = format_source(line)
        if not self._console.is_terminal:
            write_line(f"{line.timestamp} {source} {line.text}")
            return
        self._width = max(self._width, len(source))
        colour = self._colours.setdefault(source, _COLOURS[len(self._colours) % len(_COLOURS)])
        time = f"{line.time.astimezone():%H:%M:%S.%f}"[:-3]
        label = source.ljust(self._width)
        text = escape_control_characters(line.text if self._raw else shorten_json(line.text))
        row = Text.assemble((time, "dim"), " ", (label, colour), " ", text)
        self._console.print(row, soft_wrap=True)


def shorten_json(text: str) -> str:
    """Return level and message of a line of JSON, with its exception; other lines unchanged."""
    try:
        entry = json.loads(text) if text.startswith("{") else None
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict) or not isinstance(entry.get("message"), str):
        return text
    parts = (entry.get(key) for key in ("level", "message", "exception"))
    return " ".join(str(part) for part in parts if part)


def escape_control_characters(text: str) -> str:
    r"""Remove colours, and show other control characters as ``\x1b``."""
    return _CONTROL_CHARACTER.sub(
        lambda match: f"\\x{ord(match[0]):02x}", _COLOUR_SEQUENCE.sub("", text)
    )


def _write_connection_event(event: HostLost | HostBack) -> None:
    if isinstance(event, HostBack):
        text = Text.assemble(("reconnected: ", "green"), event.host.name)
    else:
        retry = "; reconnecting" if event.is_retried else ""
        text = Text.assemble(("lost: ", "red"), f"{event.host.name}: {event.error.message}{retry}")
    console(err=True).print(text, soft_wrap=True)
