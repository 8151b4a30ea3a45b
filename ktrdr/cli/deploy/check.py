"""`ktrdr deploy check`: all that a deploy could stumble over, before it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy import check_summary
from ktrdr.cli.deploy.query_options import busy, looking, plan_for
from ktrdr.cli.hosts import read_inventory, ssh_program
from ktrdr.cli.render import console, write_json
from ktrdr.deployment.check import local_checks as laptop
from ktrdr.deployment.check.query import Checked, Checker, exit_code
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.homelab.hosts import Place, chosen
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.homelab.secret_fields import FIELDS
from ktrdr.deployment.hosts.problems import Finding, Point
from ktrdr.deployment.releases.checkout import Checkout
from ktrdr.deployment.releases.release import validate_tag
from ktrdr.deployment.secrets.sources import make_source
from ktrdr.deployment.ssh.program import SshProgram
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import KtrdrError
from ktrdr.secret import Scrubber


@click.command(epilog=EXIT_CODES)
@looking
def check(
    hosts: tuple[str, ...],
    tag: str | None,
    inventory: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Look for all that a deploy could stumble over, on this machine and everywhere else.

    Changes nothing, and ends with all that is wrong at once, rather than at the first. The exit
    code is 0, or the lowest of those that belong to what was found: the one that a deploy would
    end with.
    """
    with busy("looking at laptop, vault, registry and hosts …"):
        report = list(_report(hosts, tag, inventory, settings))
    if as_json:
        write_json(check_summary.to_json(report))
    else:
        check_summary.show(console(), report)
    code = exit_code(report)
    if code:
        raise SystemExit(code)


def _report(
    hosts: Sequence[str], tag: str | None, inventory: Path | None, settings: Sequence[str]
) -> Iterator[Checked]:
    around = Checkout.find(Path.cwd())
    try:
        known = read_inventory(inventory, checkout=around, settings=settings)
    except KtrdrError as error:
        points = (*laptop.programs(SshProgram().executable), *laptop.checkout(around, tag))
        fault = Point("inventory", findings=(Finding.of(error),))
        yield Checked("laptop", _shown(around.root), (*points, fault))
        return
    places = chosen(known, hosts)
    plans, planning = _plans(places, known, around, tag)
    program = ssh_program(known)
    points = (*laptop.programs(program.executable), *laptop.checkout(around, tag))
    counted = Point("inventory", f"{len(places)} host{'' if len(places) == 1 else 's'}")
    yield Checked("laptop", _shown(around.root), (*points, counted, *planning))
    scrubber = Scrubber()
    with SshTransport(program, scrubber=scrubber) as transport:
        source = make_source(known.secrets, FIELDS)
        yield from Checker(known, plans, source, transport, scrubber).all()
    for place in places:
        if place not in plans:
            unseen = Point("not looked at", remark="not looked at: there is nothing to deploy")
            yield Checked(place.name, place.host, (unseen,))


def _shown(path: Path) -> str:
    """A path as people write it."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _plans(
    places: Sequence[Place], inventory: Inventory, checkout: Checkout, tag: str | None
) -> tuple[Mapping[Place, Plan], Sequence[Point]]:
    """The plans that can be made, and what is to be said of them, each thing once."""
    plans: dict[Place, Plan] = {}
    points: dict[Point, None] = {}
    for place in places:

        def make(place: Place = place) -> Plan:
            return plan_for(place, inventory, checkout, validate_tag(tag) if tag else None)

        plan, point = laptop.planned(make)
        points[point] = None
        if plan:
            plans[place] = plan
    return plans, list(points)
