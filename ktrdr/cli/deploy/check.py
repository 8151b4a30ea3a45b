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
from ktrdr.deployment.homelab.hosts import chosen
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.problems import Finding, Point
from ktrdr.deployment.releases.checkout import Checkout
from ktrdr.deployment.releases.release import checked_tag
from ktrdr.deployment.secrets.choice import source_of
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
    around = Checkout.around(Path.cwd())
    try:
        known = read_inventory(inventory, checkout=around, settings=settings)
    except KtrdrError as error:
        points = (*laptop.programs(SshProgram().executable), *laptop.checkout(around, tag))
        fault = Point("inventory", findings=(Finding.of(error),))
        yield Checked("laptop", _shown(around.root), (*points, fault))
        return
    hosts = chosen(known, hosts)
    plans, planning = _plans(hosts, known, around, tag)
    program = ssh_program(known)
    points = (*laptop.programs(program.executable), *laptop.checkout(around, tag))
    counted = Point("inventory", f"{len(hosts)} host{'' if len(hosts) == 1 else 's'}")
    yield Checked("laptop", _shown(around.root), (*points, counted, *planning))
    scrubber = Scrubber()
    with SshTransport(program, scrubber=scrubber) as transport:
        yield from Checker(known, plans, source_of(known.secrets), transport, scrubber).all()
    for host in hosts:
        if host not in plans:
            unseen = Point("not looked at", remark="not looked at: there is nothing to deploy")
            yield Checked(host.name, host.address, (unseen,))


def _shown(path: Path) -> str:
    """A path as people write it."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _plans(
    hosts: Sequence[Host], inventory: Inventory, checkout: Checkout, tag: str | None
) -> tuple[Mapping[Host, Plan], Sequence[Point]]:
    """The plans that can be made, and what is to be said of them, each thing once."""
    plans: dict[Host, Plan] = {}
    points: dict[Point, None] = {}
    for host in hosts:

        def make(host: Host = host) -> Plan:
            return plan_for(host, inventory, checkout, checked_tag(tag) if tag else None)

        plan, point = laptop.planned(make)
        points[point] = None
        if plan:
            plans[host] = plan
    return plans, list(points)
