"""`ktrdr deploy core`, `workers` and `all`: deploy a release to hosts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ktrdr.cli import completion
from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy.operator import signals_as_ctrl_c
from ktrdr.cli.deploy.options import (
    batch_options,
    deploy_options,
    profile_option,
    scale_option,
    skip_option,
)
from ktrdr.cli.hosts import open_connections, read_inventory
from ktrdr.cli.render import errors_as_json_lines
from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.homelab.hosts import select_hosts
from ktrdr.deployment.releases.checkout import Checkout
from ktrdr.errors import UsageError

_ALL = "all"


@click.command(epilog=EXIT_CODES)
@click.argument("service", shell_complete=completion.complete_core_services)
@profile_option
@deploy_options
def core(service: str, **options: Any) -> None:
    """Deploy SERVICE, or `all` services, of the core stack.

    A deploy combines an image tag with the configuration of the commit that the tag names.
    Services that need no change are not touched.
    """
    _deploy(DeployOptions(**options), ["core"], service)


@click.command(epilog=EXIT_CODES)
@click.argument("node", nargs=-1, shell_complete=completion.complete_nodes)
@click.option(
    "--on",
    "tags",
    multiple=True,
    metavar="TAG",
    help="Only nodes that have this tag in the inventory. May be repeated.",
)
@scale_option
@profile_option
@skip_option
@click.option(
    "--behind",
    is_flag=True,
    help="Deploy only nodes that do not run the newest release of all hosts, or --tag.",
)
@batch_options
@deploy_options
def workers(node: tuple[str, ...], tags: tuple[str, ...], **options: Any) -> None:
    """Deploy the workers of one NODE, of several, or of `all` nodes in the inventory.

    NODE may be a pattern such as 'gpu-*'; it may be left out with --on. Replaced workers save their
    progress and requeue their operation.
    """
    if not node and not tags:
        raise click.UsageError("Missing argument 'NODE'.")
    _deploy(DeployOptions(**options), ["workers", *node], _ALL, tags)


@click.command("all", epilog=EXIT_CODES)
@scale_option
@skip_option
@batch_options
@deploy_options
def all_hosts(**options: Any) -> None:
    """Deploy the core and, once it is healthy, the workers of all nodes.

    All hosts are locked, checked and compared before any of them changes.
    """
    _deploy(DeployOptions(**options), [_ALL], _ALL)


def _deploy(
    options: DeployOptions, words: Sequence[str], service: str, tags: Sequence[str] = ()
) -> None:
    with errors_as_json_lines(options.as_json):
        if options.behind and options.dry_run:
            raise UsageError(
                "--behind reads the histories of the hosts, and --dry-run connects to none",
                hint="Use `ktrdr deploy diff` to see what a deploy would change.",
            )
        checkout = Checkout.find(Path.cwd())
        inventory = read_inventory(options.inventory, checkout=checkout, settings=options.settings)
        hosts = select_hosts(inventory, words, tags)
    addresses = () if options.dry_run else [host.address for host in hosts]
    with (
        signals_as_ctrl_c(),
        open_connections(addresses, inventory, parallel=options.parallel) as connections,
    ):
        # Loading this takes a while, during which the hosts are connected to.
        from ktrdr.cli.deploy.execution import plan_and_run

        plan_and_run(hosts, service, options, checkout, inventory, connections)
