"""`ktrdr deploy core`, `workers` and `all`: bring a release to hosts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ktrdr.cli import completion, deploy_summary
from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploying import world
from ktrdr.cli.deploying.carrying import carry_out, write_line
from ktrdr.cli.deploying.options import Options, deploying, profile_option, scale_option
from ktrdr.cli.hosts import read_inventory
from ktrdr.cli.render import console, say
from ktrdr.deployment import plan as plans
from ktrdr.deployment.checkout import Checkout, undecided
from ktrdr.deployment.history import ALL
from ktrdr.deployment.inventory import Inventory
from ktrdr.deployment.plan import Plan, Request
from ktrdr.deployment.release import Release, Target, checked_tag
from ktrdr.deployment.result import failure_to_json, plans_to_json
from ktrdr.deployment.targets import Place, chosen
from ktrdr.errors import KtrdrError


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
    try:
        inventory, planned = _plan(options, words, service)
    except KtrdrError as error:
        if options.as_json:
            write_line(failure_to_json(error))
        raise
    if options.dry_run:
        _show(options, planned)
    else:
        carry_out(planned, inventory, options)


def _plan(options: Options, words: Sequence[str], service: str) -> tuple[Inventory, list[Plan]]:
    checkout = Checkout.around(Path.cwd())
    inventory = read_inventory(options.inventory, checkout=checkout, settings=options.settings)
    places = chosen(inventory, words)
    if options.tag is None:
        _settle(options, checkout.head().doubts())
    tag = checked_tag(options.tag) if options.tag else None
    stamp = world.stamp()
    releases: dict[Target, Release] = {}
    for place in places:
        if place.target not in releases:
            releases[place.target] = checkout.release(place.target, tag)
    release = next(iter(releases.values()))
    if release.commit is None:
        say(
            f"note: {release.tag} names no commit that is known here, so the configuration "
            "is that of the working tree"
        )
    return inventory, [
        plans.make(inventory, _request(options, place, service), releases[place.target], stamp)
        for place in places
    ]


def _request(options: Options, place: Place, service: str) -> Request:
    return Request(
        target=place.target,
        node=place.node,
        service=service,
        profiles=options.profiles,
        scale=options.scale,
        skip_validation=options.skip_validation,
        health_timeout_s=options.health_timeout,
    )


def _settle(options: Options, doubts: Sequence[str]) -> None:
    """Asks whether to deploy the last commit in spite of doubts, where somebody can answer."""
    if not doubts:
        return
    if options.dry_run or options.yes:
        say(f"note: {'; '.join(doubts)}")
        return
    if not world.somebody_is_there():
        raise undecided(doubts)
    for doubt in doubts:
        say(doubt)
    world.confirm("Deploy the image of the last commit all the same?")


def _show(options: Options, planned: Sequence[Plan]) -> None:
    if options.as_json:
        write_line(plans_to_json(planned))
        return
    for plan in planned:
        deploy_summary.show_plan(console(), plan, whole=options.verbose > 0)
