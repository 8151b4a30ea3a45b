"""`ktrdr operations`: submit, watch and control operations."""

from __future__ import annotations

import click

from ktrdr.cli.commands.operations.control import cancel, clean, resume
from ktrdr.cli.commands.operations.query import list_operations, logs, results, show, watch
from ktrdr.cli.commands.operations.submit import batch, submit


@click.group()
def operations() -> None:
    """Submit, watch and control backtests, sweeps and trainings."""


for command in (
    *(submit, batch, list_operations, show, watch),
    *(logs, results, cancel, resume, clean),
):
    operations.add_command(command)
