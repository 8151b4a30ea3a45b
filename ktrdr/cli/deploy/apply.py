"""`ktrdr deploy core`, `workers` and `all`: bring a release to hosts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ktrdr.cli import completion
from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy.connections import way_to
from ktrdr.cli.deploy.json_lines import failure_as_line
from ktrdr.cli.deploy.options import Options, deploying, profile_option, scale_option
from ktrdr.cli.hosts import read_inventory
from ktrdr.deployment.homelab.hosts import chosen
from ktrdr.deployment.hosts.history import ALL
from ktrdr.deployment.releases.checkout import Checkout


@click.command(epilog=EXIT_CODES)
@click.argument("service", shell_complete=completion.core_services)
@profile_option
@deploying
def core(service: str, **options: Any) -> None:
    """Deploy SERVICE, or `all` services, of the core stack.

    What is deployed is an image by its tag, together with the configuration of the very commit
    that the tag names. Services that need no change are not touched.
    """
    _deploy(Options(**options), ["core"], service)


@click.command(epilog=EXIT_CODES)
@click.argument("node", nargs=-1, required=True, shell_complete=completion.nodes)
@scale_option
@profile_option
@deploying
def workers(node: tuple[str, ...], **options: Any) -> None:
    """Deploy the workers of NODE, of several nodes, or of `all` that the inventory names.

    Workers that are replaced save their progress and hand their operation back to the queue.
    """
    _deploy(Options(**options), ["workers", *node], ALL)


@click.command("all", epilog=EXIT_CODES)
@scale_option
@deploying
def everything(**options: Any) -> None:
    """Deploy the core, and when it is healthy, the workers of all nodes.

    All hosts are locked, checked and compared before any of them is changed.
    """
    _deploy(Options(**options), [ALL], ALL)


def _deploy(options: Options, words: Sequence[str], service: str) -> None:
    with failure_as_line(options.as_json):
        checkout = Checkout.find(Path.cwd())
        inventory = read_inventory(options.inventory, checkout=checkout, settings=options.settings)
        places = chosen(inventory, words)
    hosts = () if options.dry_run else [place.host for place in places]
    with way_to(hosts, inventory, at_once=options.parallel) as way:
        # Loading what comes takes a while, in which hosts can be connected to.
        from ktrdr.cli.deploy.planning import bring

        bring(places, service, options, checkout=checkout, inventory=inventory, way=way)
