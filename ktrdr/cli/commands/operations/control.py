"""Commands that change operations: cancel, resume, clean."""

from __future__ import annotations

import click

from ktrdr.cli.render import json_option, write_json, write_note, write_table
from ktrdr.client.backend import open_backend


@click.command()
@click.argument("operation_id")
@json_option
def cancel(operation_id: str, as_json: bool) -> None:
    """Cancel an operation. A running one stops within seconds."""
    with open_backend() as api:
        operation = api.cancel(operation_id)
    if as_json:
        write_json(operation)
    else:
        state = "cancelled" if operation.status.is_final else "being cancelled"
        write_note(f"{operation_id} is {state}")


@click.command()
@click.argument("operation_id")
@json_option
def resume(operation_id: str, as_json: bool) -> None:
    """Queue a failed or cancelled operation again, with its checkpoint."""
    with open_backend() as api:
        operation = api.resume(operation_id)
    if as_json:
        write_json(operation)
    else:
        write_note(f"{operation_id} is queued again")


@click.command()
@click.option("--dry-run", is_flag=True, help="List the files without deleting them.")
@json_option
def clean(dry_run: bool, as_json: bool) -> None:
    """Delete files that killed workers left behind.

    The backend also does this periodically.
    """
    with open_backend() as api:
        orphans = api.list_orphans() if dry_run else api.remove_orphans()
    if as_json:
        write_json(orphans)
        return
    write_table(
        ("operation", "would be deleted" if dry_run else "deleted"),
        [(orphan.operation_id, orphan.path) for orphan in orphans],
        empty="No files to delete.",
    )
