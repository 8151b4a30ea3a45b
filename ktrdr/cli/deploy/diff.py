"""`ktrdr deploy diff`: what a deploy would change on the hosts."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy import diff_summary
from ktrdr.cli.deploy.options import profile_option, scale_option
from ktrdr.cli.deploy.query_options import busy, looking, plan_for
from ktrdr.cli.hosts import read_inventory, ssh_program
from ktrdr.cli.render import console, say, write_json
from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.diff.changes import Difference
from ktrdr.deployment.diff.query import Differ
from ktrdr.deployment.homelab import credentials
from ktrdr.deployment.homelab.hosts import Place, chosen
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.homelab.secret_fields import FIELDS, require_usable_fields
from ktrdr.deployment.releases.checkout import Checkout
from ktrdr.deployment.releases.release import validate_tag
from ktrdr.deployment.secrets.sources import make_source
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.secret import Scrubber, Secret

# What `ktrdr deploy diff` exits with where a deploy would change something; no error has this code.
WOULD_CHANGE: Final = 10


@click.command(epilog=f"{EXIT_CODES.rstrip()}\n {WOULD_CHANGE} a deploy would change something\n")
@looking
@scale_option
@profile_option
@click.option(
    "--secrets",
    "ask",
    is_flag=True,
    help="Ask the vault, rather than take the secrets for unchanged.",
)
@click.option("--full", is_flag=True, help="Show every line of every file, and every commit.")
def diff(
    hosts: tuple[str, ...],
    tag: str | None,
    inventory: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    profiles: tuple[str, ...],
    scale: int | None,
    ask: bool,
    full: bool,
) -> None:
    """Show what a deploy would change on the hosts: images, settings, files, containers.

    Only looks: nothing is pulled, and no disk is written to. Needs no secret: those that the
    containers have are taken for unchanged, and do not leave their host.
    """
    checkout = Checkout.find(Path.cwd())
    known = read_inventory(inventory, checkout=checkout, settings=settings)
    places = chosen(known, hosts)
    named = validate_tag(tag) if tag else None
    if named is None:
        for doubt in checkout.head().warnings():
            say(f"note: {doubt}")
    plans = {place: _plan(place, known, checkout, named, profiles, scale) for place in places}
    with busy("comparing …"):
        found = _compare(known, plans, checkout, ask=ask)
    if as_json:
        write_json(diff_summary.to_json(found, asked=ask))
    else:
        diff_summary.show(console(), found, full=full)
    code = _exit_code(found)
    if code:
        raise SystemExit(code)


def _plan(
    place: Place,
    inventory: Inventory,
    checkout: Checkout,
    tag: str | None,
    profiles: tuple[str, ...],
    scale: int | None,
) -> Plan:
    asked = {"scale": scale} if place.node else {}
    return plan_for(place, inventory, checkout, tag, profiles=profiles, **asked)


def _compare(
    inventory: Inventory, plans: Mapping[Place, Plan], checkout: Checkout, *, ask: bool
) -> list[Difference]:
    scrubber = Scrubber()
    values = _values(inventory, list(plans.values()), scrubber) if ask else None
    with SshTransport(ssh_program(inventory), scrubber=scrubber) as transport:
        return Differ(checkout, transport, secrets.token_hex(8), values).all(plans)


def _values(
    inventory: Inventory, plans: Sequence[Plan], scrubber: Scrubber
) -> Mapping[str, Mapping[str, Secret]]:
    """What each host's script is given, from one call to the vault."""
    now = Clock().now()
    fields = make_source(inventory.secrets, FIELDS).fetch()
    require_usable_fields(fields, {name for plan in plans for name in credentials.fields_for(plan)})
    found = {plan.site.host: credentials.values(fields, inventory, plan, now=now) for plan in plans}
    scrubber.learn(*credentials.hidden(fields, found.values(), plans))
    return found


def _exit_code(found: Sequence[Difference]) -> int:
    """That of an error, if there was one; else whether anything would change."""
    codes = [each.error.exit_code for each in found if each.error]
    return min(codes) if codes else WOULD_CHANGE if any(each.changed for each in found) else 0
