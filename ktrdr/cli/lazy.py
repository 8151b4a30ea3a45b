"""Groups of commands that import a command when it is used, not when it is listed."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem


class Entry(NamedTuple):
    """Where a command is (``module:name``), and what the help says of it without loading it."""

    place: str
    help: str


class LazyGroup(click.Group):
    """A group whose commands stand in a table.

    Attributes:
        entries: The commands by name, in the order in which they are listed.
    """

    def __init__(self, *args: Any, entries: Mapping[str, Entry], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """The names, in the order of the table."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        entry = self.entries.get(cmd_name)
        if entry is None and ctx.resilient_parsing:
            return None
        if entry is None:
            near = difflib.get_close_matches(cmd_name, self.entries, n=1)
            question = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"There is no command {cmd_name!r}.{question}")
        module, _, name = entry.place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The names that begin so, from the table, and the group's own options."""
        names = (name for name in self.entries if name.startswith(incomplete))
        commands = [CompletionItem(name, help=self.entries[name].help) for name in names]
        # Not the group's own method, which imports every command to ask whether it is hidden.
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's signature
        """Writes the table's texts, so that the help imports no command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.entries.items()])
