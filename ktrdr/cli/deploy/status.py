"""`ktrdr deploy status`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from ktrdr.cli import completion
from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.host_tables import describe_host, host_to_json, write_services
from ktrdr.cli.hosts import inventory_option, read_inventory, ssh_program
from ktrdr.cli.render import json_option, write_heading, write_json, write_note, write_pairs
from ktrdr.deployment.deploy.result import SCHEMA
from ktrdr.deployment.homelab.hosts import chosen
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.deployment.status.query import Surveyed, survey

UNWELL: Final = 8
DRIFTED: Final = 9


@click.command(epilog=EXIT_CODES)
@click.argument("hosts", nargs=-1, shell_complete=completion.complete_hosts)
@inventory_option
@json_option
def status(hosts: tuple[str, ...], inventory: Path | None, as_json: bool) -> None:
    """Show what runs on each host, and whether it is what was deployed.

    HOSTS are core, workers NODE, workers all or all; by default all. Needs no secrets. The exit
    code is 5 or 6 when a host cannot be looked at, else 8 when a service is not well, else 9 when
    something is not as the last release left it.
    """
    found = read_inventory(inventory)
    hosts = chosen(found, hosts)
    with SshTransport(ssh_program(found)) as transport:
        seen = survey(hosts, transport)
    if as_json:
        write_json({"schema": SCHEMA, "hosts": [host_to_json(host) for host in seen]})
    else:
        for host in seen:
            _write(host)
    raise SystemExit(exit_code(seen))


def exit_code(seen: Sequence[Surveyed]) -> int:
    """What the command ends with: 0 only where all is well, and as it was deployed."""
    if errors := [host.error for host in seen if host.error]:
        return min(error.exit_code for error in errors)
    if any(host.troubles or host.lacks_secrets for host in seen):
        return UNWELL
    return DRIFTED if any(host.drift for host in seen) else 0


def _write(host: Surveyed) -> None:
    write_heading(f"{host.host.name}  {host.host.address}")
    if host.error:
        write_note(f"cannot be looked at: {host.error.message}")
    if host.now is None:
        return
    if not host.error:
        write_services(host)
    write_pairs(describe_host(host))
