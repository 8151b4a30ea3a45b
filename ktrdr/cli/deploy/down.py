"""`ktrdr deploy down`: remove the stack from hosts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy import operator
from ktrdr.cli.deploy.maintenance import (
    MaintenanceRun,
    maintenance_options,
    print_results,
    yes_option,
)
from ktrdr.cli.hosts import read_inventory, ssh_program
from ktrdr.cli.render import console, count_of
from ktrdr.deployment.down import ProjectResources, fetch_resources, remove_stack
from ktrdr.deployment.homelab.hosts import select_hosts
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.lock import HostLock
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import Interrupted, UsageError

# Stands for `--volumes` without a name.
_ASK = ""


@click.command(epilog=EXIT_CODES)
@click.option(
    "--volumes",
    is_flag=False,
    flag_value=_ASK,
    default=None,
    metavar="[=HOST]",
    help="Also delete the data, permanently. Asks for the host's name, unless it is given here.",
)
@yes_option
@maintenance_options
def down(
    hosts: tuple[str, ...],
    volumes: str | None,
    yes: bool,
    lock_wait: float,
    inventory: Path | None,
    as_json: bool,
) -> None:
    """Remove the stack from hosts: stop everything, remove containers and networks.

    HOSTS are core, workers NODE, workers all or all. Lists what exists, and asks for confirmation.
    Data, images and configuration stay, so that a deploy restores everything. Needs no secrets.
    """
    known = read_inventory(inventory)
    selected = select_hosts(known, hosts)
    if volumes is not None and len(selected) != 1:
        raise UsageError(
            "--volumes deletes the data of one host at a time",
            hint="Name the host, for example: ktrdr deploy down core --volumes",
        )
    with SshTransport(ssh_program(known)) as transport:
        resources = fetch_resources(selected, transport)
    _confirm(selected, resources, volumes, yes=yes)
    with_volumes = volumes is not None
    subject = "with volumes" if with_volumes else ""
    run = MaintenanceRun(known, "down", lock_wait, subject=subject)

    def remove(host: Host, lock: HostLock) -> ProjectResources:
        return remove_stack(run.service_manager(host, lock), volumes=with_volumes)

    print_results(
        run.for_each_locked_host(selected, remove),
        as_json=as_json,
        to_json=lambda removed: _to_json(removed, volumes=with_volumes),
        show=lambda host, removed: _show(host, removed, volumes=with_volumes),
    )


def _confirm(
    hosts: Sequence[Host],
    resources: Sequence[ProjectResources],
    volumes: str | None,
    *,
    yes: bool,
) -> None:
    """Show what is removed and what stays; end the command unless the operator confirms."""
    err = console(err=True)
    for host, each in zip(hosts, resources, strict=True):
        for line in _describe(host, each, volumes=volumes is not None):
            err.print(line, soft_wrap=True)
    if volumes is not None:
        _confirm_name(hosts[0], volumes)
    # An operator who typed the host's name has confirmed already.
    if not yes and volumes != _ASK:
        names = ", ".join(host.name for host in hosts)
        operator.confirm("Remove the stack?", [f"the stack will be removed from {names}"])


def _describe(host: Host, resources: ProjectResources, *, volumes: bool) -> list[Text]:
    containers = count_of(resources.containers, "container")
    networks = count_of(resources.networks, "network")
    text = f"on {host.address}: {containers} and {networks} to remove"
    lines = [Text.assemble((f"{host.name} ", "bold"), text)]
    names = ", ".join(resources.volumes)
    if volumes and names:
        lines.append(Text(f"  all data will be deleted permanently: {names}", style="red"))
    elif names:
        lines.append(Text(f"  the data stays: {names}", style="dim"))
    return lines


def _confirm_name(host: Host, given: str) -> None:
    """Require the name of the host whose data is deleted, as an option or typed."""
    name = host.short_name
    if given != _ASK:
        if given.lower() != name.lower():
            raise UsageError(
                f"--volumes={given} is not the name of the host, which is {name}",
                hint=f"Nothing was changed; use --volumes={name} to delete its data.",
            )
        return
    if not operator.is_interactive():
        raise UsageError(
            f"confirmation required: the data of {host.name} will be deleted",
            hint=f"Nothing was changed; re-run with --volumes={name} --yes to accept this.",
        )
    try:
        typed = click.prompt(f"Type {name} to delete its data", err=True, default="")
    except click.Abort:
        typed = ""
    if typed.strip().lower() != name.lower():
        raise Interrupted(f"the typed name is not {name}: nothing was changed")


def _show(host: Host, removed: ProjectResources, *, volumes: bool) -> None:
    parts = [count_of(removed.containers, "container"), count_of(removed.networks, "network")]
    if volumes:
        parts.append(count_of(removed.volumes, "volume"))
    line = Text.assemble(("✓ ", "green"), f"{host.name} is down: {', '.join(parts)} removed")
    console().print(line, soft_wrap=True)


def _to_json(removed: ProjectResources, *, volumes: bool) -> dict[str, Any]:
    document = removed.to_json()
    return {"removed": document if volumes else {**document, "volumes": []}}
