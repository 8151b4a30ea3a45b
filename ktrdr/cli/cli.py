"""Root command `ktrdr`: groups that import commands on use, and exit codes for errors."""

from __future__ import annotations

import difflib
import importlib
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

import click
from click.shell_completion import CompletionItem

from ktrdr.cli.render import write_error, write_note
from ktrdr.errors import KtrdrError

EXIT_CODES: Final = """\b
Exit codes:
  0 done                      6 host not ready
  2 usage                     7 image or registry
  3 configuration             8 deployment or operation failed
  4 secrets or tokens         9 locked or in conflict
  5 host unreachable         11 deployed, but hosts that are off were skipped
                            130 interrupted
"""
INTERRUPTED: Final = 130

_Command = TypeVar("_Command", bound=Callable[..., None])


class LazyCommand(NamedTuple):
    """Command that is imported on use.

    Attributes:
        path: Import path, as ``module:name``.
        help: Short help, so that a list of commands need not import them.
    """

    path: str
    help: str


class LazyGroup(click.Group):
    """Group that imports a command when it is used, not when it is listed.

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


COMMANDS: Final = {
    "deploy": LazyCommand("ktrdr.cli.commands.deploy:deploy", "Deploy the stack to the hosts."),
    "host": LazyCommand("ktrdr.cli.commands.host:host", "Prepare hosts for the first deploy."),
    "status": LazyCommand(
        "ktrdr.cli.commands.status:status", "Show hosts, services, workers and operations."
    ),
    "workers": LazyCommand("ktrdr.cli.commands.workers:workers", "List and drain workers."),
    "operations": LazyCommand(
        "ktrdr.cli.commands.operations:operations",
        "Submit, watch and control backtests, sweeps and trainings.",
    ),
    "strategies": LazyCommand(
        "ktrdr.cli.commands.strategies:strategies", "List, check, upload and delete strategies."
    ),
    "data": LazyCommand("ktrdr.cli.commands.data:data", "Import, list and remove market data."),
    "secrets": LazyCommand(
        "ktrdr.cli.commands.secrets:secrets", "Check the secrets without showing them."
    ),
    "token": LazyCommand("ktrdr.cli.commands.token:token", "Create, show and revoke tokens."),
    "audit": LazyCommand("ktrdr.cli.commands.audit:audit", "Show who changed what, and when."),
    "completion": LazyCommand(
        "ktrdr.cli.completion:completion", "Print a script for shell completion."
    ),
}


@click.group(cls=LazyGroup, lazy_commands=COMMANDS, epilog=EXIT_CODES)
@click.version_option(package_name="ktrdr", prog_name="ktrdr")
def cli() -> None:
    """Deploy and run KTRDR, a research platform for trading strategies."""


def with_options(*options: Callable[[Any], Any]) -> Callable[[_Command], _Command]:
    """Return a decorator that adds several options to a command, in this order."""

    def add_options(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add_options


def main() -> NoReturn:
    """Run the command line and exit with a documented code."""
    # Children such as `op` and `ssh` have secrets in their memory, as this process has. A core dump
    # would write them to the disk. With a hard limit of 0, no child can raise the limit.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        code = _run()
    finally:
        # The outcome is decided. While the interpreter ends, Ctrl-C would only print a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def _run() -> int:
    """Run the command line, report its error, and return the exit code."""
    try:
        code = cli.main(prog_name="ktrdr", standalone_mode=False)
    except click.exceptions.Abort:
        write_note("interrupted")
        return INTERRUPTED
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except KtrdrError as exc:
        write_error(exc)
        return exc.exit_code
    except BrokenPipeError:
        # The reader of our output has closed it. Another write to it would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as exc:
        if os.environ.get("KTRDR_DEBUG"):
            raise
        write_note(type(exc).__name__, label="internal error")
        write_note("Re-run with KTRDR_DEBUG=1 and report the traceback.", label="hint")
        return 1
    return code if isinstance(code, int) else 0
