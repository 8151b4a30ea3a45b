"""`ktrdr secrets`: looks at what the secret source has, and shows none of it."""

from __future__ import annotations

from pathlib import Path

import click

from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.hosts import inventory_option, read_inventory
from ktrdr.cli.render import json_option, write_json, write_note, write_table
from ktrdr.deployment.secrets import requirements
from ktrdr.deployment.secrets.choice import described, source_of
from ktrdr.deployment.secrets.inspection import Finding, inspect
from ktrdr.deployment.secrets.source import FIELDS


@click.group()
def secrets() -> None:
    """Look at the secrets that deploys need, without showing one."""


@secrets.command(epilog=EXIT_CODES)
@inventory_option
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a value of the inventory, such as secrets.source=age; may be repeated.",
)
@json_option
def check(inventory: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Ask the secret source for every field, and tell which are there, usable and strong.

    Exits with 4 when a deploy could not use one, and with 0 and a warning when one is merely weak.
    """
    where = read_inventory(inventory, settings=settings).secrets
    fields = source_of(where).fetch()
    findings = inspect(fields)
    if as_json:
        write_json(findings)
    else:
        write_note(f"The secrets come from {described(where)}.")
        write_table(("field", "there", "usable", "strength", "remarks"), _rows(findings), empty="")
    requirements.check(fields, FIELDS)
    weak = [each.field for each in findings if each.strength == "weak"]
    if weak:
        write_note(
            f"warning: {', '.join(weak)} can be used but {'is' if len(weak) == 1 else 'are'} weak; "
            "a password generator makes better ones, such as `openssl rand -base64 48`"
        )


def _rows(findings: list[Finding]) -> list[tuple[str, ...]]:
    return [
        (
            each.field,
            "yes" if each.present else "no",
            "yes" if each.usable else "no",
            each.strength if each.usable else "",
            "; ".join(each.remarks),
        )
        for each in findings
    ]
