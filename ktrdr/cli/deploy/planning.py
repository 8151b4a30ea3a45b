"""Brings a release to hosts: the part of the command that is loaded while they are connected to."""

from __future__ import annotations

from collections.abc import Sequence

from ktrdr.cli import deploy_summary
from ktrdr.cli.deploy import dependencies as world
from ktrdr.cli.deploy.connections import Way
from ktrdr.cli.deploy.execution import carry_out
from ktrdr.cli.deploy.json_lines import failure_as_line, write_line
from ktrdr.cli.deploy.options import Options
from ktrdr.cli.render import console, say
from ktrdr.deployment.deploy import plan as plans
from ktrdr.deployment.deploy.plan import Plan, Request
from ktrdr.deployment.deploy.result import plans_to_json
from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.releases.checkout import Checkout, ambiguous_image_error
from ktrdr.deployment.releases.release import Release, Target, validate_tag


def bring(
    places: Sequence[Place],
    service: str,
    options: Options,
    *,
    checkout: Checkout,
    inventory: Inventory,
    way: Way,
) -> None:
    """Plans for each of the places, and carries the plans out, or shows them.

    Args:
        places: Where to.
        service: The only service that is asked for, or ``all``.
        options: How.
        checkout: Where the configuration comes from.
        inventory: What is where.
        way: The way to the hosts.

    Raises:
        KtrdrError: The gravest of what went wrong, when all of it has been told.
    """
    with failure_as_line(options.as_json):
        planned = _plan(places, service, options, checkout, inventory)
    if options.dry_run:
        _show(options, planned)
    else:
        carry_out(planned, inventory, options, way)


def _plan(
    places: Sequence[Place],
    service: str,
    options: Options,
    checkout: Checkout,
    inventory: Inventory,
) -> list[Plan]:
    if options.tag is None:
        _settle(options, checkout.head().warnings())
    tag = validate_tag(options.tag) if options.tag else None
    stamp = world.stamp()
    releases: dict[Target, Release] = {}
    for place in places:
        if place.target not in releases:
            releases[place.target] = checkout.load_release(place.target, tag)
    release = next(iter(releases.values()))
    if release.commit is None:
        say(
            f"note: {release.tag} names no commit that is known here, so the configuration "
            "is that of the working tree"
        )
    return [
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
        raise ambiguous_image_error(doubts)
    for doubt in doubts:
        say(doubt)
    world.confirm("Deploy the image of the last commit all the same?")


def _show(options: Options, planned: Sequence[Plan]) -> None:
    if options.as_json:
        write_line(plans_to_json(planned))
        return
    for plan in planned:
        deploy_summary.show_plan(console(), plan, whole=options.verbose > 0)
