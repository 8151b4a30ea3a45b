"""How a run of faults is shown: a table by fault, and whatever must not be."""

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
    """Prints a row for each fault, and below them the problems.

    Args:
        console: Where to.
        titles: Of the columns after the fault's name, which hold figures.
        rows: The fault's name and its figures.
        problems: What must not be, a sentence each.
        text_at_end: The title of a last column that holds text.
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
