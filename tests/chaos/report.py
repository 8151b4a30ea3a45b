"""Table of faults and problems, as chaos runs print it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table


def show_by_fault(
    console: Console,
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    problems: Iterable[str],
    *,
    text_at_end: str = "",
) -> None:
    """Print a row for each fault, then the problems.

    Args:
        console: Console to print to.
        titles: Titles of the numeric columns after the fault's name.
        rows: Name and numbers of every fault.
        problems: Violations, a sentence each.
        text_at_end: Title of a last column with text, or empty.
    """
    table = Table(box=None, header_style="bold")
    table.add_column("fault")
    for title in titles:
        table.add_column(title, justify="right")
    if text_at_end:
        table.add_column(text_at_end)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for problem in problems:
        console.print(f"[red]{problem}[/]", soft_wrap=True)
