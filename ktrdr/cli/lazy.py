"""Command groups that import a command when it is used, not when it is listed."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem


class LazyCommand(NamedTuple):
    """Command that is imported on use.

    Attributes:
        path: Import path, as ``module:name``.
        help: Short help, so that a list of commands need not import them.
    """

    path: str
    help: str


class LazyGroup(click.Group):
    """Group of lazily imported commands.

    Attributes:
        lazy_commands: Commands by name, in the order of the help.
    """

    def __init__(self, *args: Any, lazy_commands: Mapping[str, LazyCommand], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy_commands = lazy_commands

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Return the names of the commands, in the order of the help."""
        return list(self.lazy_commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        lazy = self.lazy_commands.get(cmd_name)
        if lazy is None and ctx.resilient_parsing:
            return None
        if lazy is None:
            near = difflib.get_close_matches(cmd_name, self.lazy_commands, n=1)
            question = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"There is no command {cmd_name!r}.{question}")
        module, _, name = lazy.path.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name or an option of the group, without importing a command."""
        commands = [
            CompletionItem(name, help=lazy.help)
            for name, lazy in self.lazy_commands.items()
            if name.startswith(incomplete)
        ]
        # click.Group's own method imports every command to find out whether it is hidden.
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's signature
        """Write the short help of the commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in self.lazy_commands.items()])
