"""`ktrdr deploy prune`: remove images and files that no release needs."""

from __future__ import annotations

from pathlib import Path

import click
from rich.text import Text

from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy.maintenance import (
    MaintenanceRun,
    maintenance_options,
    print_results,
)
from ktrdr.cli.hosts import read_inventory
from ktrdr.cli.render import console, count_of
from ktrdr.deployment import prune as pruning
from ktrdr.deployment.homelab.hosts import select_hosts
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.lock import HostLock
from ktrdr.deployment.prune import PrunePlan

_MIB = 1024 * 1024


@click.command(epilog=EXIT_CODES)
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=pruning.DEFAULT_KEPT_RELEASES,
    show_default=True,
    metavar="N",
    help="Number of releases to keep for rollbacks.",
)
@click.option("--dry-run", is_flag=True, help="Show only what would be removed.")
@maintenance_options
def prune(
    hosts: tuple[str, ...],
    keep: int,
    dry_run: bool,
    lock_wait: float,
    inventory: Path | None,
    as_json: bool,
) -> None:
    """Remove images and files that no release needs.

    HOSTS are core, workers NODE, workers all or all. Removes images, archived configurations
    and partially fetched files of old releases. Keeps images in use and the last N good releases
    (--keep). Needs no secrets.
    """
    known = read_inventory(inventory)
    repositories = (known.image, known.nfs_image)
    run = MaintenanceRun(known, "prune", lock_wait)

    def prune_host(host: Host, lock: HostLock) -> PrunePlan:
        return pruning.prune(run.service_manager(host, lock), repositories, keep)

    def plan_host(host: Host) -> PrunePlan:
        return pruning.plan_prune(host, run.transport, repositories, keep)

    selected = select_hosts(known, hosts)
    if dry_run:
        outcomes = run.for_each_host(selected, plan_host)
    else:
        outcomes = run.for_each_locked_host(selected, prune_host)
    print_results(
        outcomes,
        as_json=as_json,
        to_json=lambda plan: {"dry_run": dry_run, **plan.to_json()},
        show=lambda host, plan: _show(host, plan, dry_run=dry_run),
    )


def _show(host: Host, plan: PrunePlan, *, dry_run: bool) -> None:
    out = console()
    if plan.is_empty:
        out.print(Text.assemble(("✓ ", "green"), f"{host.name}: nothing to remove"))
        return
    out.print(Text(f"{host.name}  {host.address}", style="bold"))
    for image in plan.images:
        kept = " (kept: Docker still uses it)" if image.id in plan.kept_in_use else ""
        line = f"  {image.name.rpartition('/')[2]}, {image.size / _MIB:,.0f} MiB{kept}"
        out.print(Text(line), soft_wrap=True)
    parts = [count_of(plan.images, "image"), count_of(plan.configurations, "configuration")]
    if plan.staged_kb:
        parts.append(f"{plan.staged_kb} KiB of partially fetched files")
    would_be = "would be " if dry_run else ""
    text = f"{', '.join(parts)} {would_be}removed, at most {plan.size / _MIB:,.0f} MiB"
    out.print(Text.assemble(("✓ ", "green"), text), soft_wrap=True)
