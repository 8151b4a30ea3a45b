"""`ktrdr deploy history`: show the deploys to hosts."""

from __future__ import annotations

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
from ktrdr.deployment.homelab.hosts import select_hosts
from ktrdr.deployment.hosts.history import ALL, HistoryEntry
from ktrdr.deployment.hosts.history_queries import HostHistory, fetch_histories
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
    help="Number of deploys to show for each host, the newest last.",
)
@inventory_option
@json_option
def history(hosts: tuple[str, ...], last: int, inventory: Path | None, as_json: bool) -> None:
    """Show the deploys to hosts: release, time, user and outcome.

    A release's id begins with the time of the deploy (UTC). The outcome "cut off" means that a
    power cut or a lost connection ended the deploy.
    """
    known = read_inventory(inventory)
    with SshTransport(ssh_program(known)) as transport:
        histories = fetch_histories(select_hosts(known, hosts), transport)
    if as_json:
        write_json({"schema": SCHEMA, "hosts": [_to_json(each, last) for each in histories]})
    else:
        for each in histories:
            _write(each, last)
    for each in histories:
        if each.error:
            raise each.error


def _write(history: HostHistory, last: int) -> None:
    write_heading(f"{history.host.name}  {history.host.address}")
    if history.error:
        write_note(f"cannot be queried: {history.error.message}")
        return
    entries = history.entries[-last:]
    write_table(
        ("release", "kind", "version", "by", "outcome", ">duration"),
        [_row(entry) for entry in entries],
        empty="Nothing has been deployed here yet.",
    )
    for entry in entries:
        if entry.reason:
            write_note(f"{entry.id}: {entry.reason}")
        if entry.skipped:
            write_note(f"{entry.id}: skipped {', '.join(entry.skipped)}")


def _row(entry: HistoryEntry) -> tuple[str, ...]:
    kind = entry.kind.value if entry.service == ALL else f"{entry.kind.value} {entry.service}"
    outcome, took = entry.outcome.value, format_duration(entry.duration_s)
    return (entry.id, kind, entry.tag, entry.deploy.who, outcome, took)


def _to_json(history: HostHistory, last: int) -> dict[str, object]:
    return {
        "target": history.host.name,
        "host": history.host.address,
        "error": error_to_json(history.error) if history.error else None,
        "releases": [entry.to_json() for entry in history.entries[-last:]],
    }
