"""Root command `ktrdr`: lazily registered groups, and exit codes for errors."""

from __future__ import annotations

import os
import resource
import sys
from typing import Final, NoReturn

import click

from ktrdr.cli.lazy import LazyCommand, LazyGroup
from ktrdr.cli.render import write_error, write_note
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


COMMANDS: Final = {
    "deploy": LazyCommand("ktrdr.cli.commands.deploy:deploy", "Deploy the stack to the hosts."),
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


def main() -> NoReturn:
    """Run the command line and exit with a documented code."""
    # Children such as `op` and `ssh` have secrets in their memory, as this process has. A core dump
    # would write them to the disk. With a hard limit of 0, no child can raise the limit.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        code = cli.main(prog_name="ktrdr", standalone_mode=False)
    except click.exceptions.Abort:
        write_note("interrupted")
        sys.exit(INTERRUPTED)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except KtrdrError as exc:
        write_error(exc)
        sys.exit(exc.exit_code)
    except BrokenPipeError:
        # The reader of our output has closed it. Another write to it would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as exc:
        if os.environ.get("KTRDR_DEBUG"):
            raise
        write_note(type(exc).__name__, label="internal error")
        write_note("Re-run with KTRDR_DEBUG=1 and report the traceback.", label="hint")
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
