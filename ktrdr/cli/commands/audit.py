"""`ktrdr audit`: who changed what, and when."""

from __future__ import annotations

import json

import click

from ktrdr.cli.connection import backend
from ktrdr.cli.render import json_option, write_json, write_table


@click.command()
@click.option(
    "--subject", metavar="ID", help="Only what was done to this operation, worker, token."
)
@click.option("--actor", metavar="NAME", help="Only what they have done.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500))
@json_option
def audit(subject: str | None, actor: str | None, limit: int, as_json: bool) -> None:
    """Show who changed what, newest first."""
    with backend() as api:
        found = api.audit(subject=subject, actor=actor, limit=limit)
    if as_json:
        write_json(found)
        return
    write_table(
        ("when (UTC)", "who", "what", "to", ""),
        [
            (
                f"{each.at:%Y-%m-%d %H:%M:%S}",
                each.actor,
                each.action,
                each.subject,
                json.dumps(each.detail) if each.detail else "",
            )
            for each in found
        ],
        empty="Nothing was changed yet.",
    )
