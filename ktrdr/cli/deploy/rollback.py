"""`ktrdr deploy rollback`: put a release into place again that a host remembers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from ktrdr.cli import completion
from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy import dependencies as world
from ktrdr.cli.deploy.connections import way_to
from ktrdr.cli.deploy.execution import carry_out
from ktrdr.cli.deploy.json_lines import failure_as_line
from ktrdr.cli.deploy.options import Options, changing
from ktrdr.cli.hosts import read_inventory
from ktrdr.deployment.deploy import plan as plans
from ktrdr.deployment.deploy.plan import Plan, Request, Stamp
from ktrdr.deployment.homelab import schema
from ktrdr.deployment.homelab.hosts import Place, chosen
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.hosts import history_queries as remembering
from ktrdr.deployment.hosts.history import Entry, Kind
from ktrdr.deployment.hosts.history_queries import Remembered
from ktrdr.deployment.ssh.interface import Transport


@click.command(epilog=EXIT_CODES)
@click.argument(
    "hosts", nargs=-1, metavar="[core|workers NODE|all]", shell_complete=completion.complete_hosts
)
@click.option(
    "--to",
    metavar="RELEASE",
    help="A release's id or tag from `ktrdr deploy history`; by default the good one before.",
)
@changing
def rollback(hosts: tuple[str, ...], to: str | None, **options: Any) -> None:
    """Put the release before into place again: image, configuration and settings.

    Everything comes from the hosts themselves, so no checkout is needed. Secrets are those of the
    vault as they are now.
    """
    told = Options(**options)
    with failure_as_line(told.as_json):
        inventory = read_inventory(told.inventory, settings=told.settings)
        places = chosen(inventory, hosts)
    names = [place.host for place in places]
    with way_to(names, inventory, at_once=told.parallel) as way:
        with failure_as_line(told.as_json):
            planned = _plan(inventory, places, to, told, way.transport)
        carry_out(planned, inventory, told, way)


def _plan(
    inventory: Inventory,
    places: Sequence[Place],
    to: str | None,
    options: Options,
    transport: Transport,
) -> list[Plan]:
    stamp = world.stamp()
    found = remembering.ask(places, transport)
    entries = [remembering.way_back(each, to) for each in found]
    if not options.skip_validation:
        _check_schema(inventory, found, entries, transport)
    return [
        _one(inventory, each, entry, _service(each, entry, to), options, stamp, transport)
        for each, entry in zip(found, entries, strict=True)
    ]


def _check_schema(
    inventory: Inventory,
    found: Sequence[Remembered],
    entries: Sequence[Entry],
    transport: Transport,
) -> None:
    remembered = [entry for each in found for entry in each.entries]
    (core,) = chosen(inventory, ["core"])
    for entry in {entry.tag: entry for entry in entries}.values():
        schema.check(core, entry, remembered, transport)


def _service(found: Remembered, entry: Entry, to: str | None) -> str:
    """What the last deploy has not touched is not touched on the way back from it either."""
    return entry.service if to else found.entries[-1].service


def _one(
    inventory: Inventory,
    found: Remembered,
    entry: Entry,
    service: str,
    options: Options,
    stamp: Stamp,
    transport: Transport,
) -> Plan:
    release = remembering.kept(found.place, entry, transport)
    request = Request(
        target=found.place.target,
        node=found.place.node,
        service=service,
        skip_validation=options.skip_validation,
        health_timeout_s=options.health_timeout,
        kind=Kind.ROLLBACK,
        again=entry,
        of=found.entries[-1].id,
    )
    return plans.make(inventory, request, release, stamp)
