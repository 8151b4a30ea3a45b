"""`ktrdr deploy down`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy import dependencies as world
from ktrdr.cli.deploy.maintenance import Work, counted, finish, keeping, teller, yes_option
from ktrdr.cli.hosts import read_inventory, ssh_program
from ktrdr.cli.render import console
from ktrdr.deployment import down as removal
from ktrdr.deployment.down import Belongings
from ktrdr.deployment.homelab.hosts import chosen
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.lock import Held
from ktrdr.deployment.services import Attendant
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import Interrupted, UsageError

# What stands for `--volumes` without a name.
_ASK = ""


@click.command(epilog=EXIT_CODES)
@click.option(
    "--volumes",
    is_flag=False,
    flag_value=_ASK,
    default=None,
    metavar="[=HOST]",
    help="Remove the data, too, for ever. Asks for the host's name, unless it is given here.",
)
@yes_option
@keeping
def down(
    hosts: tuple[str, ...],
    volumes: str | None,
    yes: bool,
    lock_wait: float,
    inventory: Path | None,
    as_json: bool,
) -> None:
    """Take the stack off hosts: stop everything, remove containers and networks.

    HOSTS are core, workers NODE, workers all or all. Says what there is, and asks. Data, images and
    configuration stay, so that a deploy brings everything back. Needs no secrets.
    """
    found = read_inventory(inventory)
    hosts = chosen(found, hosts)
    if volumes is not None and len(hosts) != 1:
        raise UsageError(
            "--volumes takes one host at a time", hint="Name it: ktrdr deploy down core --volumes"
        )
    with SshTransport(ssh_program(found)) as transport:
        there = removal.look(hosts, transport)
    _ask(hosts, there, volumes, yes=yes)
    work = Work(found, "down", lock_wait)

    def act(host: Host, lock: Held) -> Belongings:
        attendant = Attendant(
            host, lock, work.transport, found.image, teller(host), 0.0, work.stopping
        )
        return removal.remove(attendant, volumes=volumes is not None)

    finish(
        work.on_each(hosts, act),
        as_json=as_json,
        to_json=lambda gone: _to_json(gone, volumes=volumes is not None),
        show=lambda host, gone: _show(host, gone, volumes=volumes is not None),
    )


def _ask(
    hosts: Sequence[Host], there: Sequence[Belongings], volumes: str | None, *, yes: bool
) -> None:
    """Says what goes and what stays; ends the command unless that is meant."""
    err = console(err=True)
    for host, each in zip(hosts, there, strict=True):
        for line in _said(host, each, volumes=volumes is not None):
            err.print(line, soft_wrap=True)
    if volumes is not None:
        _ask_for_name(hosts[0], volumes)
    if not yes:
        if not world.somebody_is_there():
            raise UsageError(
                "taking a stack down needs your word",
                hint="Nothing was changed; write_note --yes if that is meant.",
            )
        if volumes in (None, hosts[0].node or hosts[0].name):
            world.confirm("Take down?")


def _said(host: Host, each: Belongings, *, volumes: bool) -> list[Text]:
    gone = f"{counted(each.containers, 'container')} and {counted(each.networks, 'network')} go"
    lines = [Text.assemble((f"{host.name} ", "bold"), f"on {host.address}: {gone}")]
    names = ", ".join(each.volumes)
    if volumes and names:
        lines.append(Text(f"  and with them, for ever, all data in {names}", style="red"))
    elif names:
        lines.append(Text(f"  the data stays: {names}", style="dim"))
    return lines


def _ask_for_name(host: Host, given: str) -> None:
    name = host.node or host.name
    if given == _ASK:
        if not world.somebody_is_there():
            raise UsageError(
                f"removing the data of {host.name} needs its name",
                hint=f"Nothing was changed; write_note --volumes={name} --yes if that is meant.",
            )
        _ask_to_type(name)
    elif given.lower() != name.lower():
        raise UsageError(
            f"--volumes={given} is not the name of the host, which is {name}",
            hint="Nothing was changed.",
        )


def _ask_to_type(name: str) -> None:
    try:
        typed = click.prompt(f"Type {name} to remove its data", err=True, default="")
    except click.Abort:
        typed = ""
    if typed.strip().lower() != name.lower():
        raise Interrupted("that is not the host's name: nothing was changed")


def _show(host: Host, gone: Belongings, *, volumes: bool) -> None:
    what = [counted(gone.containers, "container"), counted(gone.networks, "network")]
    if volumes:
        what.append(counted(gone.volumes, "volume"))
    line = Text.assemble(("✓ ", "green"), f"{host.name} is down: {', '.join(what)} removed")
    console().print(line, soft_wrap=True)


def _to_json(gone: Belongings, *, volumes: bool) -> dict[str, Any]:
    removed = gone.to_json()
    return {"removed": removed if volumes else {**removed, "volumes": []}}
