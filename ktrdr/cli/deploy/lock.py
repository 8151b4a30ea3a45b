"""`ktrdr deploy lock`: who works on a host, and the way to end it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from ktrdr.cli import completion
from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy import dependencies as world
from ktrdr.cli.hosts import inventory_option, read_inventory, ssh_program
from ktrdr.cli.render import json_option, write_json, write_table
from ktrdr.deployment.deploy.result import SCHEMA, error_to_json
from ktrdr.deployment.homelab.hosts import chosen
from ktrdr.deployment.hosts import lock as locks
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.lock import Owner
from ktrdr.deployment.hosts.parallel import on_each
from ktrdr.deployment.ssh.interface import Transport
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import KtrdrError, UsageError

Asked = tuple[Host, Owner | KtrdrError | None]
_HOSTS = click.argument(
    "hosts", nargs=-1, metavar="[core|workers NODE|all]", shell_complete=completion.complete_hosts
)


@click.group(epilog=EXIT_CODES)
def lock() -> None:
    """See who works on a host, or release its lock.

    A lock lives as long as the connection of whoever has it: it ends with Ctrl-C, with a crash, and
    45 seconds after a machine fell silent. So it hardly ever has to be released by hand.
    """


@lock.command(epilog=EXIT_CODES)
@_HOSTS
@inventory_option
@json_option
def show(hosts: tuple[str, ...], inventory: Path | None, as_json: bool) -> None:
    """Show who works on which host, since when, and what for."""
    _tell(_ask(hosts, inventory, locks.look), as_json=as_json)


@lock.command(epilog=EXIT_CODES)
@_HOSTS
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@inventory_option
@json_option
def release(hosts: tuple[str, ...], yes: bool, inventory: Path | None, as_json: bool) -> None:
    """End whoever works on a host: their deploy stops before its next change."""
    found = _ask(hosts, inventory, locks.look)
    taken = [(host, owner) for host, owner in found if isinstance(owner, Owner)]
    if taken and not yes:
        names = "; ".join(f"{host.name} is locked by {owner}" for host, owner in taken)
        if not world.somebody_is_there():
            raise UsageError(f"{names}", hint="Say --yes if that is to be ended.")
        click.echo(names, err=True)
        world.confirm("End that?")
    _tell(_ask(hosts, inventory, locks.force) if taken else found, as_json=as_json, was=True)


def _ask(
    hosts: tuple[str, ...],
    inventory: Path | None,
    question: Callable[[Transport, Host], Owner | None],
) -> list[Asked]:
    found = read_inventory(inventory)
    with SshTransport(ssh_program(found)) as transport:

        def one(host: Host) -> Asked:
            try:
                return host, question(transport, host)
            except KtrdrError as error:
                return host, error

        return on_each(one, chosen(found, hosts), transport)


def _tell(found: list[Asked], *, as_json: bool, was: bool = False) -> None:
    if as_json:
        write_json({"schema": SCHEMA, "hosts": [_document(*each) for each in found]})
    else:
        held = "released, was held by" if was else "held by"
        write_table(
            ("host", "lock", "who", "since", "what"),
            [_row(host, answer, held) for host, answer in found],
            empty="The inventory names no host.",
        )
    for _, answer in found:
        if isinstance(answer, KtrdrError):
            raise answer


def _row(host: Host, answer: Owner | KtrdrError | None, held: str) -> tuple[str, ...]:
    if isinstance(answer, KtrdrError):
        return (host.name, "not known", "", "", answer.message)
    if answer is None:
        return (host.name, "free", "", "", "")
    return (host.name, held, answer.who, f"{answer.since:%Y-%m-%d %H:%M:%S}", answer.reason)


def _document(host: Host, answer: Owner | KtrdrError | None) -> dict[str, object]:
    owner = answer if isinstance(answer, Owner) else None
    return {
        "target": host.name,
        "host": host.address,
        "held": owner is not None,
        "id": owner.id if owner else None,
        "who": owner.who if owner else None,
        "since": owner.since.isoformat() if owner else None,
        "reason": owner.reason if owner else None,
        "error": error_to_json(answer) if isinstance(answer, KtrdrError) else None,
    }
