"""`ktrdr operations`: submit, watch and control operations."""

from __future__ import annotations

import click

from ktrdr.cli.commands.operations.control import cancel, clean, resume
from ktrdr.cli.commands.operations.query import list_operations, logs, results, show, watch
from ktrdr.cli.commands.operations.submit import batch, submit


@click.group()
def operations() -> None:
    """Submit, watch and control backtests, sweeps and trainings."""


operations.add_command(submit)
operations.add_command(batch)
operations.add_command(list_operations)
operations.add_command(show)
operations.add_command(watch)
operations.add_command(logs)
operations.add_command(results)
operations.add_command(cancel)
operations.add_command(resume)
operations.add_command(clean)
