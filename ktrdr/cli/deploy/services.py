"""`ktrdr deploy restart` and `ktrdr deploy stop`: restart or stop services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.text import Text

from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy.maintenance import (
    MaintenanceRun,
    maintenance_options,
    print_results,
    service_option,
)
from ktrdr.cli.deploy.options import health_timeout_option
from ktrdr.cli.hosts import read_inventory
from ktrdr.cli.render import console
from ktrdr.deployment.homelab.hosts import select_hosts, split_services
from ktrdr.deployment.hosts.containers import Snapshot
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.lock import HostLock


@click.command(epilog=EXIT_CODES)
@service_option
@health_timeout_option
@maintenance_options
def restart(
    hosts: tuple[str, ...],
    services: tuple[str, ...],
    health_timeout: float,
    lock_wait: float,
    inventory: Path | None,
    as_json: bool,
) -> None:
    """Restart services, or start stopped ones, and wait until they are healthy.

    HOSTS are core, a NODE, workers or all; services may follow, as in `core backend`. Image and
    configuration stay the same. Needs no secrets.
    """
    known = read_inventory(inventory)
    named, more = split_services(known, hosts)
    services = (*services, *more)
    run = MaintenanceRun(known, "restart", lock_wait, subject=", ".join(services))

    def restart_services(host: Host, lock: HostLock) -> Snapshot:
        manager = run.service_manager(host, lock, health_timeout_s=health_timeout)
        return _only(manager.restart(services), services)

    print_results(
        run.for_each_locked_host(select_hosts(known, named), restart_services),
        as_json=as_json,
        to_json=_to_json,
        show=lambda host, containers: _show(host, containers, "restarted"),
    )


@click.command(epilog=EXIT_CODES)
@service_option
@maintenance_options
def stop(
    hosts: tuple[str, ...],
    services: tuple[str, ...],
    lock_wait: float,
    inventory: Path | None,
    as_json: bool,
) -> None:
    """Stop services until they are restarted, or deployed again.

    HOSTS are core, a NODE, workers or all; services may follow, as in `core backend`. Containers,
    networks and data stay. Workers save their progress and requeue their operation. Needs no
    secrets.
    """
    known = read_inventory(inventory)
    named, more = split_services(known, hosts)
    services = (*services, *more)
    run = MaintenanceRun(known, "stop", lock_wait, subject=", ".join(services))

    def stop_services(host: Host, lock: HostLock) -> Snapshot:
        return _only(run.service_manager(host, lock).stop(services), services)

    print_results(
        run.for_each_locked_host(select_hosts(known, named), stop_services),
        as_json=as_json,
        to_json=_to_json,
        show=lambda host, containers: _show(host, containers, "stopped"),
    )


def _only(containers: Snapshot, services: tuple[str, ...]) -> Snapshot:
    """Return the containers of the given services; all if none is given."""
    return {name: each for name, each in containers.items() if not services or name in services}


def _show(host: Host, containers: Snapshot, done: str) -> None:
    states = ", ".join(f"{name} {each.state}" for name, each in containers.items())
    line = Text.assemble(("✓ ", "green"), f"{host.name} {done}: {states}")
    # A terminal gets lines that end between words, a pipe one line.
    console().print(line, soft_wrap=not console().is_terminal)


def _to_json(containers: Snapshot) -> dict[str, Any]:
    return {
        "services": [
            {
                "service": name,
                "status": each.status,
                "health": each.health,
                "started_at": each.started_at.isoformat(),
            }
            for name, each in containers.items()
        ]
    }
