"""`ktrdr secrets`: check the fields of the secret source without showing a value."""

from __future__ import annotations

from pathlib import Path

import click

from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.hosts import inventory_option, read_inventory
from ktrdr.cli.render import json_option, write_json, write_note, write_table
from ktrdr.deployment.homelab.secret_source import describe_source, make_source
from ktrdr.deployment.homelab.secret_values import inspect_field, require_usable_fields


@click.group()
def secrets() -> None:
    """Check the secrets that deploys need. No command shows a value."""


@secrets.command(epilog=EXIT_CODES)
@inventory_option
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a value of the inventory, such as secrets.source=age; may be repeated.",
)
@json_option
def check(inventory: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check that every secret is present, usable and strong.

    Exits with 4 if a deploy could not use one. A weak secret only causes a warning.
    """
    settings = read_inventory(inventory, settings=overrides).secrets
    fields = make_source(settings).fetch()
    reports = [inspect_field(name, fields) for name in settings.field_names]
    if as_json:
        write_json(reports)
    else:
        write_note(f"The secrets come from {describe_source(settings)}.")
        rows = [
            (
                report.field,
                "yes" if report.present else "no",
                "yes" if report.usable else "no",
                report.strength if report.usable else "",
                "; ".join(report.remarks),
            )
            for report in reports
        ]
        write_table(("field", "present", "usable", "strength", "remarks"), rows, empty="")
    require_usable_fields(fields, settings.field_names)
    if weak := [report.field for report in reports if report.strength == "weak"]:
        write_note(
            f"warning: weak secrets: {', '.join(weak)}. "
            "Generate better ones, for example with `openssl rand -base64 48`."
        )
