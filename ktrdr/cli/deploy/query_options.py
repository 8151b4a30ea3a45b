"""What the commands have in common that look at a deploy beforehand: options, plans, a way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from ktrdr.cli import completion
from ktrdr.cli.deploy import dependencies as world
from ktrdr.cli.deploy.options import set_option, tag_option
from ktrdr.cli.hosts import inventory_option
from ktrdr.cli.render import console
from ktrdr.deployment.deploy import plan as plans
from ktrdr.deployment.deploy.plan import Plan, Request
from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.releases.checkout import Checkout

_OPTIONS: Final = (
    tag_option,
    inventory_option,
    set_option,
    click.option("--json", "as_json", is_flag=True, help="Print the result as a JSON document."),
)


def looking(command: Callable[..., None]) -> Callable[..., None]:
    """The hosts a command is about, and the options to say what would be deployed to them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return click.argument(
        "hosts", nargs=-1, metavar="[core|workers NODE|all]", shell_complete=completion.hosts
    )(command)


def plan_for(
    place: Place, inventory: Inventory, checkout: Checkout, tag: str | None, **asked: Any
) -> Plan:
    """What a deploy of all that belongs on a host would do.

    Args:
        place: The host.
        inventory: What is where.
        checkout: Where the configuration comes from.
        tag: The image, or None for that of the checkout.
        asked: What else was asked for; see `Request`.

    Raises:
        KtrdrError: See `Checkout.release` and `plans.make`.
    """
    release = checkout.load_release(place.target, tag)
    return plans.make(inventory, Request(place.target, place.node, **asked), release, world.stamp())


@contextmanager
def busy(text: str) -> Iterator[None]:
    """Says on a terminal what is waited for, and takes it away again."""
    err = console(err=True)
    if not err.is_terminal:
        yield
        return
    with err.status(text):
        yield
