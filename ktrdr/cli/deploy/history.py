"""`ktrdr deploy history`: what was deployed, by whom, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ktrdr.cli import completion
from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.hosts import inventory_option, read_inventory, ssh_program
from ktrdr.cli.render import (
    format_duration,
    json_option,
    write_heading,
    write_json,
    write_note,
    write_table,
)
from ktrdr.deployment.deploy.result import SCHEMA, error_to_json
from ktrdr.deployment.homelab.hosts import chosen
from ktrdr.deployment.hosts import history_queries as remembering
from ktrdr.deployment.hosts.history import Entry
from ktrdr.deployment.hosts.history_queries import Remembered
from ktrdr.deployment.ssh.transport import SshTransport


@click.command(epilog=EXIT_CODES)
@click.argument(
    "hosts", nargs=-1, metavar="[core|workers NODE|all]", shell_complete=completion.complete_hosts
)
@click.option(
    "--last",
    "-n",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="N",
    help="So many of each host, the newest last.",
)
@inventory_option
@json_option
def history(hosts: tuple[str, ...], last: int, inventory: Path | None, as_json: bool) -> None:
    """Show what was deployed to hosts, when, by whom, and what came of it.

    A release's name begins with the time when it was asked for (UTC).

    A release that was cut off has no end in the host's records: its machine, its connection or the
    host itself went away.
    """
    found = read_inventory(inventory)
    with SshTransport(ssh_program(found)) as transport:
        remembered = remembering.ask(chosen(found, hosts), transport)
    if as_json:
        write_json({"schema": SCHEMA, "hosts": [_document(each, last) for each in remembered]})
    else:
        for each in remembered:
            _write(each, last)
    for each in remembered:
        if each.error:
            raise each.error


def _write(found: Remembered, last: int) -> None:
    write_heading(f"{found.host.name}  {found.host.address}")
    if found.error:
        write_note(f"cannot be asked: {found.error.message}")
        return
    entries = found.entries[-last:]
    write_table(
        ("=release", "what", "version", "by", "outcome", ">took"),
        [_row(entry) for entry in entries],
        empty="Nothing was deployed here yet.",
    )
    for entry in _explained(entries):
        write_note(f"{entry.id}: {entry.reason}")


def _row(entry: Entry) -> tuple[str, ...]:
    what = entry.kind.value if entry.service == "all" else f"{entry.kind.value} {entry.service}"
    took = format_duration(entry.duration_s)
    return (entry.id, what, entry.tag, entry.who, entry.outcome.value, took)


def _explained(entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.reason]


def _document(found: Remembered, last: int) -> dict[str, object]:
    return {
        "target": found.host.name,
        "host": found.host.address,
        "error": error_to_json(found.error) if found.error else None,
        "releases": [entry.to_json() for entry in found.entries[-last:]],
    }
