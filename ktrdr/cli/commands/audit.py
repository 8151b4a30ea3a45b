"""`ktrdr audit`: the audit trail."""

from __future__ import annotations

import json

import click

from ktrdr.cli.render import json_option, write_json, write_table
from ktrdr.client.backend import open_backend


@click.command()
@click.option(
    "--subject",
    metavar="ID",
    help="Show only changes to ID: an operation, worker, token, dataset or strategy.",
)
@click.option("--actor", metavar="NAME", help="Show only changes by NAME.")
@click.option(
    "--limit",
    default=20,
    show_default=True,
    type=click.IntRange(1, 500),
    help="Maximum number of changes.",
)
@json_option
def audit(subject: str | None, actor: str | None, limit: int, as_json: bool) -> None:
    """Show who changed what and when, newest first."""
    with open_backend() as api:
        entries = api.list_audit_entries(subject=subject, actor=actor, limit=limit)
    if as_json:
        write_json(entries)
        return
    write_table(
        ("time (UTC)", "actor", "action", "subject", "details"),
        [
            (
                f"{entry.at:%Y-%m-%d %H:%M:%S}",
                entry.actor,
                entry.action,
                entry.subject,
                json.dumps(entry.detail) if entry.detail else "",
            )
            for entry in entries
        ],
        empty="There are no changes.",
    )
