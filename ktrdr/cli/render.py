"""Output of commands: results on standard output; notes, warnings and errors on standard error.

The other modules of the CLI print through this one. rich is imported when something is drawn with
it, so that `ktrdr --help` does not load it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from ktrdr.errors import KtrdrError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

# Wide enough for every table where no terminal limits the width.
PIPE_WIDTH: Final = 200
_STATUS_STYLES: Final = {
    "available": "green",
    "busy": "cyan",
    "temporarily unavailable": "red",
    "not ready": "red",
    "drained": "yellow",
    "pending": "yellow",
    "running": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "dim",
    "ok": "green",
    "healthy": "green",
    "degraded": "red",
    "unavailable": "red",
    "unhealthy": "red",
}
_LABEL_COLOURS: Final = {"error": "red", "internal error": "red", "hint": "cyan"}

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@cache
def console(*, err: bool = False) -> Console:
    """Return the console of standard output, or of standard error."""
    from rich.console import Console

    stream: TextIO = sys.stderr if err else sys.stdout
    return Console(
        file=stream,
        width=None if stream.isatty() else PIPE_WIDTH,
        highlight=False,
        # Otherwise a name such as ":bug:" becomes a picture, and the table of pictures is loaded.
        emoji=False,
        no_color=bool(os.environ.get("NO_COLOR")) or None,
    )


def write_line(text: str) -> None:
    """Write a line of data to standard output."""
    click.echo(text)


def write_unchanged(content: str | bytes) -> None:
    """Write content to standard output unchanged, without adding a line end, and flush."""
    click.echo(content, nl=False)


def write_json(result: BaseModel | Sequence[BaseModel] | Mapping[str, Any]) -> None:
    """Write a result as an indented JSON document."""
    document: Any = result
    if isinstance(result, Sequence):
        document = [model.model_dump(mode="json") for model in result]
    elif not isinstance(result, Mapping):
        document = result.model_dump(mode="json")
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def write_json_line(document: Mapping[str, Any]) -> None:
    """Write a JSON document in one line, and flush."""
    click.echo(json.dumps(document, ensure_ascii=False))


@contextmanager
def errors_as_json_lines(enabled: bool) -> Iterator[None]:
    """Write a raised error as a line of JSON, if enabled, and raise it again."""
    try:
        yield
    except KtrdrError as error:
        if enabled:
            # A third of the deployer, which a command that succeeds does not load here.
            from ktrdr.deployment.deploy.result import failure_to_json

            write_json_line(failure_to_json(error))
        raise


@contextmanager
def spinner(text: str) -> Iterator[None]:
    """Show on a terminal what is waited for within a block."""
    err = console(err=True)
    if not err.is_terminal:
        yield
        return
    with err.status(text):
        yield


def write_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Write a table, or the note ``empty`` if there are no rows.

    A ">" before a column's name aligns it to the right. Only cells with spaces are folded, so names
    and ids stay whole. On a terminal that is too narrow for that, each row becomes a paragraph.
    Cells with a known status are coloured.
    """
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    if not rows:
        write_note(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    cells = list(zip([name.lstrip(">") for name in columns], *rows, strict=True))
    # Each column has at least the width of its longest word, and more as long as there is room.
    widths = [max(map(len, " ".join(column).split()), default=0) for column in cells]
    room = console().width - sum(widths) - 2 * (len(widths) - 1)
    if room < 0 and console().is_terminal:
        for row in rows:
            pairs = zip([column[0] for column in cells[1:]], row[1:], strict=True)
            details = Text("\n".join(f"{name} {cell}" for name, cell in pairs if cell))
            console().print(
                Text(row[0], style="bold"), Padding(details, (0, 0, 0, 2), expand=False)
            )
        return
    for title, column, width in zip(columns, cells, widths, strict=True):
        extra = max(0, min(room, max(map(len, column)) - width))
        room -= extra
        table.add_column(
            column[0],
            justify="right" if title.startswith(">") else "left",
            overflow="fold",
            width=width + extra,
        )
    for row in rows:
        table.add_row(*(Text(cell, style=_STATUS_STYLES.get(cell, "")) for cell in row))
    console().print(table)


def write_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Write names and their values in two columns."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(name, Text(value, style=_STATUS_STYLES.get(value, "")))
    console().print(grid)


def write_heading(text: str) -> None:
    """Write an empty line and a heading."""
    from rich.text import Text

    console().print()
    console().print(Text(text, style="bold"))


def write_error(error: KtrdrError) -> None:
    """Write an error and its hint to standard error."""
    write_note(error.message, label="error")
    if error.hint:
        write_note(error.hint, label="hint")


def write_note(text: str, *, label: str = "") -> None:
    """Write a message for people to standard error, after ``label:`` if given."""
    beginning = f"{label}:" if label else ""
    wrapped = _wrap(f"{beginning} {text}" if label else text)
    if label in _LABEL_COLOURS:
        styled = click.style(beginning, fg=_LABEL_COLOURS[label], bold=True)
        wrapped = styled + wrapped.removeprefix(beginning)
    click.echo(wrapped, err=True, color=False if os.environ.get("NO_COLOR") else None)


def _wrap(text: str) -> str:
    """Break lines between words for a terminal; leave them whole for a pipe or file."""
    if not sys.stderr.isatty():
        return text
    import shutil
    import textwrap

    width = shutil.get_terminal_size().columns
    return "\n".join(
        textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    )


def format_age(moment: datetime | None, now: datetime | None = None) -> str:
    """Return the time since a moment, such as ``12 min ago``, or ``never`` for None."""
    if moment is None:
        return "never"
    age = (now or datetime.now(UTC)) - moment
    return f"{format_duration(max(age, timedelta()))} ago"


def format_duration(span: timedelta | float | None) -> str:
    """Return a time span in a suitable unit, such as ``43 s``, ``12 min`` or ``3 h 05 min``."""
    if span is None:
        return ""
    seconds = span.total_seconds() if isinstance(span, timedelta) else span
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02} min" if hours < 48 else f"{hours // 24} d"


def format_figure(value: float | str | None) -> str:
    """Return a figure of a result, with four digits after the point if it is a fraction."""
    if value is None:
        return "n/a"
    return f"{value:,.4f}" if isinstance(value, float) else f"{value}"


def count_of(items: Sequence[object], noun: str) -> str:
    """Return a count with its noun, such as ``2 images``."""
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"
