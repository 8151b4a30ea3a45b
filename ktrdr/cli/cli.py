"""The root command: registers its groups lazily, and turns errors into exit codes.

Nothing else, but that no process of the command line leaves a core dump.
"""

from __future__ import annotations

import os
import resource
import sys
from typing import Final, NoReturn

import click

from ktrdr.cli.lazy import Entry, LazyGroup
from ktrdr.errors import KtrdrError

EXIT_CODES: Final = """\b
Exit codes:
  0 done                      6 host not ready
  2 usage                     7 image or registry
  3 configuration             8 deployment or operation failed
  4 secrets or tokens         9 locked or in conflict
  5 host unreachable        130 interrupted
"""
INTERRUPTED: Final = 130


ENTRIES: Final = {
    "deploy": Entry("ktrdr.cli.commands.deploy:deploy", "Put the stack on the hosts."),
    "status": Entry("ktrdr.cli.commands.status:status", "Hosts, services, workers, operations."),
    "workers": Entry("ktrdr.cli.commands.workers:workers", "Look at the registered workers."),
    "operations": Entry(
        "ktrdr.cli.commands.operations.group:operations",
        "Submit, watch and fetch backtests, sweeps and trainings.",
    ),
    "strategies": Entry(
        "ktrdr.cli.commands.strategies:strategies", "Look at, check and bring in strategies."
    ),
    "data": Entry("ktrdr.cli.commands.data:data", "Bring in, look at and remove market data."),
    "secrets": Entry(
        "ktrdr.cli.commands.secrets:secrets", "Check what the vault has, without showing it."
    ),
    "token": Entry("ktrdr.cli.commands.token:token", "Make, look at and revoke tokens."),
    "audit": Entry("ktrdr.cli.commands.audit:audit", "Who changed what, and when."),
    "completion": Entry("ktrdr.cli.completion:completion", "Let Tab complete what you type."),
}


@click.group(cls=LazyGroup, entries=ENTRIES, epilog=EXIT_CODES)
@click.version_option(package_name="ktrdr", prog_name="ktrdr")
def cli() -> None:
    """Deploy and run KTRDR, a research platform for trading strategies."""


def main() -> NoReturn:
    """Runs the command line and exits with a documented code."""
    _leave_no_core_dump()
    try:
        code = cli.main(prog_name="ktrdr", standalone_mode=False)
    except click.exceptions.Abort:
        _say("interrupted")
        sys.exit(INTERRUPTED)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except KtrdrError as exc:
        report(exc)
        sys.exit(exc.exit_code)
    except BrokenPipeError:
        # Whoever read our output has had enough; a message to them would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as exc:
        if os.environ.get("KTRDR_DEBUG"):
            raise
        _say(f"ktrdr met an error it did not foresee: {type(exc).__name__}")
        _say("hint: run it again with KTRDR_DEBUG=1 for the details, and report them")
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _leave_no_core_dump() -> None:
    """Forbids core dumps to this process and all that it starts.

    They, `op`, `age`, `sops` and `ssh` have secrets in their memory, which a crash would write to
    the disk. Even the hard limit goes, so that no child can have it otherwise.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def report(error: KtrdrError) -> None:
    """Writes an error's sentence and its remedy to standard error."""
    _say(f"error: {error.message}")
    if error.hint:
        _say(f"hint: {error.hint}")


def _say(text: str) -> None:
    label, colon, rest = _wrapped(text).partition(":")
    colour = {"error": "red", "hint": "cyan"}.get(label) if colon else None
    beginning = label + colon
    shown = (click.style(beginning, fg=colour, bold=True) if colour else beginning) + rest
    click.echo(shown, err=True, color=False if os.environ.get("NO_COLOR") else None)


def _wrapped(text: str) -> str:
    """The text in lines that a terminal need not break in mid-word; anything else gets one line."""
    if not sys.stderr.isatty():
        return text
    import shutil  # for this alone, when something went wrong
    import textwrap

    width = shutil.get_terminal_size().columns
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
