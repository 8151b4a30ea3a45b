"""`ktrdr deploy restart` and `ktrdr deploy stop`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.text import Text

from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy.maintenance import Work, finish, keeping, service_option, teller
from ktrdr.cli.deploy.options import health_timeout_option
from ktrdr.cli.hosts import read_inventory
from ktrdr.cli.render import console
from ktrdr.deployment.homelab.hosts import chosen
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.hosts.containers import Snapshot
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.lock import Held
from ktrdr.deployment.services import Attendant


@click.command(epilog=EXIT_CODES)
@service_option
@health_timeout_option
@keeping
def restart(
    hosts: tuple[str, ...],
    services: tuple[str, ...],
    health_timeout: float,
    lock_wait: float,
    inventory: Path | None,
    as_json: bool,
) -> None:
    """Restart services, or start those that were stopped, and wait until they are well.

    HOSTS are core, workers NODE, workers all or all. Image and configuration stay what they are.
    Needs no secrets.
    """
    found = read_inventory(inventory)
    work = Work(found, "restart", lock_wait)

    def act(host: Host, lock: Held) -> Snapshot:
        after = _attendant(work, found, host, lock, health_timeout).restart(services)
        return _about(after, services)

    finish(
        work.on_each(chosen(found, hosts), act),
        as_json=as_json,
        to_json=_to_json,
        show=lambda host, after: _show(host, after, "restarted"),
    )


@click.command(epilog=EXIT_CODES)
@service_option
@keeping
def stop(
    hosts: tuple[str, ...],
    services: tuple[str, ...],
    lock_wait: float,
    inventory: Path | None,
    as_json: bool,
) -> None:
    """Stop services until they are restarted, or deployed again.

    HOSTS are core, workers NODE, workers all or all. Containers, networks and data stay. Workers
    save their progress and hand their operation back to the queue. Needs no secrets.
    """
    found = read_inventory(inventory)
    work = Work(found, "stop", lock_wait)

    def act(host: Host, lock: Held) -> Snapshot:
        return _about(_attendant(work, found, host, lock, 0.0).stop(services), services)

    finish(
        work.on_each(chosen(found, hosts), act),
        as_json=as_json,
        to_json=_to_json,
        show=lambda host, after: _show(host, after, "stopped"),
    )


def _attendant(
    work: Work, inventory: Inventory, host: Host, lock: Held, health_timeout_s: float
) -> Attendant:
    return Attendant(
        host=host,
        lock=lock,
        transport=work.transport,
        image=inventory.image,
        tell=teller(host),
        health_timeout_s=health_timeout_s,
        stopping=work.stopping,
    )


def _about(after: Snapshot, services: tuple[str, ...]) -> Snapshot:
    return {name: after[name] for name in after if not services or name in services}


def _show(host: Host, after: Snapshot, done: str) -> None:
    states = ", ".join(f"{name} {each.state}" for name, each in after.items())
    line = Text.assemble(("✓ ", "green"), f"{host.name} {done}: {states}")
    console().print(line, soft_wrap=True)


def _to_json(after: Snapshot) -> dict[str, Any]:
    return {
        "services": [
            {
                "service": name,
                "status": each.status,
                "health": each.health,
                "started_at": each.started_at.isoformat(),
            }
            for name, each in after.items()
        ]
    }
