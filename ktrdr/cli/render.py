"""Writes results: tables on a terminal, JSON when asked. Data goes to standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, TextIO

import click
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ktrdr.errors import KtrdrError

STATUS_STYLES: Final = {
    "available": "green",
    "busy": "cyan",
    "temporarily_unavailable": "red",
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
# Wide enough for every table when nobody has a terminal that could be too narrow.
PIPE_WIDTH: Final = 200

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON instead of a table.")


@cache
def console(*, err: bool = False) -> Console:
    """Standard output or standard error, as a person sees it."""
    stream: TextIO = sys.stderr if err else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(
        file=stream,
        width=width,
        highlight=False,
        # Else a name such as ":bug:" would be a picture, and the table of all pictures be loaded.
        emoji=False,
        no_color=bool(os.environ.get("NO_COLOR")) or None,
    )


def write_json(value: BaseModel | Sequence[BaseModel] | dict[str, Any]) -> None:
    """Writes a result as JSON."""
    if isinstance(value, BaseModel):
        plain: Any = value.model_dump(mode="json")
    elif isinstance(value, dict):
        plain = value
    else:
        plain = [each.model_dump(mode="json") for each in value]
    click.echo(json.dumps(plain, indent=2, ensure_ascii=False))


def write_json_line(document: dict[str, Any]) -> None:
    """Print one line of JSON and flush it."""
    click.echo(json.dumps(document, ensure_ascii=False))


@contextmanager
def errors_as_json_lines(enabled: bool) -> Iterator[None]:
    """Print a raised error as a line of JSON, if enabled, and raise it again."""
    try:
        yield
    except KtrdrError as error:
        if enabled:
            # Loads a third of the deployer, so it is imported while the hosts are connected to.
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


def write_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str, title: str | None = None
) -> None:
    """Writes rows under a header, or the sentence ``empty`` when there are none.

    A column whose name begins with ">" is aligned to the right, one with "=" is the last to be
    folded where the terminal is narrow; cells that are a known status are coloured.
    """
    if not rows:
        say(empty)
        return
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", header_style="bold")
    for name in columns:
        table.add_column(
            name.lstrip(">="),
            justify="right" if name.startswith(">") else "left",
            overflow="fold",
            no_wrap=name.startswith("="),
        )
    for row in rows:
        table.add_row(*(Text(cell, style=STATUS_STYLES.get(cell, "")) for cell in row))
    console().print(table)


def write_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Writes names with their values."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(name, Text(value, style=STATUS_STYLES.get(value, "")))
    console().print(grid)


def heading(text: str) -> None:
    """A heading, with a line before it."""
    console().print()
    console().print(Text(text, style="bold"))


def say(text: str) -> None:
    """Something for people, on standard error, so that data stays data."""
    console(err=True).print(Text(text))


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago something was, in one unit."""
    if moment is None:
        return "never"
    passed = (now or datetime.now(UTC)) - moment
    return f"{duration(max(passed, timedelta()))} ago"


def duration(span: timedelta | float | None) -> str:
    """A time span in the unit that fits it, such as ``43 s``, ``12 min`` or ``3 h 05 min``."""
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


def figure(value: float | str | None) -> str:
    """A figure of a summary, in as many digits as help."""
    if value is None:
        return "n/a"
    return f"{value:,.4f}" if isinstance(value, float) else f"{value}"


def count_of(items: Sequence[object], noun: str) -> str:
    """Return a count with its noun, such as ``2 images``."""
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"
