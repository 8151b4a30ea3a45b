"""Acting on what was submitted: cancel, resume, clean up."""

from __future__ import annotations

import click

from ktrdr.cli.connection import backend
from ktrdr.cli.render import json_option, say, write_json, write_table


@click.command()
@click.argument("operation_id")
@json_option
def cancel(operation_id: str, as_json: bool) -> None:
    """Cancel an operation; what is running stops within seconds."""
    with backend() as api:
        operation = api.cancel(operation_id)
    if as_json:
        write_json(operation)
    else:
        ended = operation.status.is_final
        say(f"{operation_id} is {'cancelled' if ended else 'being cancelled'}")


@click.command()
@click.argument("operation_id")
@json_option
def resume(operation_id: str, as_json: bool) -> None:
    """Put a failed or cancelled operation back into the queue, to go on from its checkpoint."""
    with backend() as api:
        operation = api.resume(operation_id)
    if as_json:
        write_json(operation)
    else:
        say(f"{operation_id} is queued again")


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would go, and leave it.")
@json_option
def clean(dry_run: bool, as_json: bool) -> None:
    """Remove files that killed workers have left behind; the backend also does so by itself."""
    with backend() as api:
        found = api.leftovers() if dry_run else api.remove_leftovers()
    if as_json:
        write_json(found)
        return
    write_table(
        ("operation", "would be removed" if dry_run else "removed"),
        [(each.operation_id, each.path) for each in found],
        empty="There is nothing to remove.",
    )
