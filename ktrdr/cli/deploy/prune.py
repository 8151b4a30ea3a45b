"""`ktrdr deploy prune`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.text import Text

from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy.maintenance import Work, counted, finish, keeping, teller
from ktrdr.cli.hosts import read_inventory
from ktrdr.cli.render import console
from ktrdr.deployment import prune as pruning
from ktrdr.deployment.homelab.hosts import chosen
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.lock import Held
from ktrdr.deployment.prune import Waste
from ktrdr.deployment.services import Attendant

_MIB = 1024 * 1024


@click.command(epilog=EXIT_CODES)
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=pruning.DEFAULT_KEPT,
    show_default=True,
    metavar="N",
    help="How many releases stay, so that a rollback can go back to them.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@keeping
def prune(
    hosts: tuple[str, ...],
    keep: int,
    dry_run: bool,
    lock_wait: float,
    inventory: Path | None,
    as_json: bool,
) -> None:
    """Remove what old releases have left on hosts: images, configurations, half-fetched files.

    HOSTS are core, workers NODE, workers all or all. What runs stays, and so do the last N releases
    that ran in health. Needs no secrets.
    """
    found = read_inventory(inventory)
    ours = (found.image, found.nfs_image)
    work = Work(found, "prune", lock_wait)

    def act(host: Host, lock: Held) -> Waste:
        attendant = Attendant(
            host, lock, work.transport, found.image, teller(host), 0.0, work.stopping
        )
        return pruning.remove(attendant, ours, keep)

    def look(host: Host) -> Waste:
        return pruning.look(host, work.transport, ours, keep)

    hosts = chosen(found, hosts)
    done = work.look_at_each(hosts, look) if dry_run else work.on_each(hosts, act)
    finish(
        done,
        as_json=as_json,
        to_json=lambda waste: _to_json(waste, dry_run=dry_run),
        show=lambda host, waste: _show(host, waste, dry_run=dry_run),
    )


def _show(host: Host, waste: Waste, *, dry_run: bool) -> None:
    out = console()
    would = "would be " if dry_run else ""
    if waste.is_empty:
        out.print(Text.assemble(("✓ ", "green"), f"{host.name}: nothing to remove"))
        return
    out.print(Text(f"{host.name}  {host.address}", style="bold"))
    for image in waste.images:
        stays = " (stays: Docker does not let it go)" if image.id in waste.stayed else ""
        out.print(
            Text(f"  {image.name.rpartition('/')[2]}, {image.size / _MIB:,.0f} MiB{stays}"),
            soft_wrap=True,
        )
    parts = [counted(waste.images, "image"), counted(waste.configurations, "configuration")]
    if waste.staged_kb:
        parts.append(f"{waste.staged_kb} KiB half-fetched")
    text = f"{', '.join(parts)} {would}removed, {waste.size / _MIB:,.0f} MiB at most"
    out.print(Text.assemble(("✓ ", "green"), text), soft_wrap=True)


def _to_json(waste: Waste, *, dry_run: bool) -> dict[str, Any]:
    return {"dry_run": dry_run, **waste.to_json()}
