"""`ktrdr deploy history`: show the deploys to hosts."""

from __future__ import annotations

from datetime import UTC
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
from ktrdr.deployment.hosts.actions import HistoryAction
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
    help="Number of deploys and actions to show for each host, the newest last.",
)
@inventory_option
@json_option
def history(hosts: tuple[str, ...], last: int, inventory: Path | None, as_json: bool) -> None:
    """Show what changed hosts: deploys, restarts, drains, and other actions.

    An id begins with the date; dates and times are UTC. A deploy's id names its release. The
    outcome "cut off" means that a power cut or a lost connection ended it.
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
    every: list[HistoryEntry | HistoryAction] = [*history.entries, *history.actions]
    shown = sorted(every, key=lambda each: each.deploy.at)[-last:]
    write_table(
        ("id", "time", "kind", "version", "by", "outcome"),
        [_row(each) for each in shown],
        empty="Nothing has been deployed here yet.",
    )
    for each in shown:
        notes = [each.reason] if each.reason else []
        if isinstance(each, HistoryEntry):
            notes += [*each.also, *(f"skipped {name}" for name in each.skipped)]
        for note in notes:
            write_note(f"{each.deploy.id}: {note}")


def _row(each: HistoryEntry | HistoryAction) -> tuple[str, ...]:
    if isinstance(each, HistoryEntry):
        subject, version = "" if each.service == ALL else each.service, each.tag
    else:
        subject, version = each.subject, ""
    when, kind = f"{each.deploy.at.astimezone(UTC):%H:%M}", f"{each.kind} {subject}".rstrip()
    took = format_duration(each.duration_s)
    outcome = ", ".join(filter(None, (each.outcome.value, took)))
    return (each.deploy.id, when, kind, version, each.deploy.who, outcome)


def _to_json(history: HostHistory, last: int) -> dict[str, object]:
    return {
        "target": history.host.name,
        "host": history.host.address,
        "error": error_to_json(history.error) if history.error else None,
        "releases": [entry.to_json() for entry in history.entries[-last:]],
        "actions": [action.to_json() for action in history.actions[-last:]],
    }
