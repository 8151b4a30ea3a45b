"""`ktrdr deploy status`: show what runs, and whether it matches the last release."""

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
from ktrdr.deployment.homelab.hosts import select_hosts
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.deployment.status import HostStatus, collect_status

UNHEALTHY: Final = 8
DRIFTED: Final = 9


@click.command(epilog=EXIT_CODES)
@click.argument("hosts", nargs=-1, shell_complete=completion.complete_hosts)
@inventory_option
@json_option
def status(hosts: tuple[str, ...], inventory: Path | None, as_json: bool) -> None:
    """Show what runs on each host, and whether it matches the last release.

    HOSTS are core, workers NODE, workers all or all; by default all. Needs no secrets. The exit
    code is 5 or 6 if a host cannot be queried, else 8 if a service is not healthy, else 9 if a
    host differs from its last release, or a command was cut off there.
    """
    known = read_inventory(inventory)
    with SshTransport(ssh_program(known)) as transport:
        statuses = collect_status(select_hosts(known, hosts), transport)
    if as_json:
        write_json({"schema": SCHEMA, "hosts": [host_to_json(host) for host in statuses]})
    else:
        for host in statuses:
            _write(host)
    raise SystemExit(exit_code(statuses))


def exit_code(statuses: Sequence[HostStatus]) -> int:
    """Return 0 if all hosts are healthy and match their last release, and nothing was cut off."""
    if errors := [host.error for host in statuses if host.error]:
        return min(error.exit_code for error in errors)
    if any(host.problems or host.lacks_secrets for host in statuses):
        return UNHEALTHY
    return DRIFTED if any(host.drift or host.unfinished for host in statuses) else 0


def _write(host: HostStatus) -> None:
    write_heading(f"{host.host.name}  {host.host.address}")
    if host.error:
        write_note(f"cannot be queried: {host.error.message}")
    if host.now is None:
        return
    if not host.error:
        write_services(host)
    write_pairs(describe_host(host))
