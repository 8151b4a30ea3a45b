"""`ktrdr deploy init`: create a commented inventory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.hosts import INVENTORY, inventory_option
from ktrdr.cli.render import write_note
from ktrdr.deployment.homelab.inventory import DEFAULT_DOMAIN
from ktrdr.deployment.homelab.inventory_file import parse_inventory, render_template
from ktrdr.deployment.releases.checkout import Checkout
from ktrdr.errors import ConfigurationError, UsageError

_SOURCES: Final = ("1password", "age", "sops", "environment")
_DEFAULT_NODES: Final = ("B", "C")
_NEXT_STEPS: Final = """\
Next:
  edit the file           set the hosts and everything else that differs from the defaults
  ktrdr secrets check     check the secrets
  ktrdr host prepare all  set up the hosts
  ktrdr deploy check      check the hosts (docs/deploying.md lists the requirements)
  ktrdr deploy all        deploy to all hosts"""


@click.command(epilog=EXIT_CODES)
@click.option(
    "--domain",
    metavar="NAME",
    default=DEFAULT_DOMAIN,
    show_default=True,
    help="DNS zone of the homelab.",
)
@click.option("--core-host", metavar="NAME", help="Core host.  [default: backend.DOMAIN]")
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="NAME",
    default=_DEFAULT_NODES,
    show_default=True,
    help="Worker node; may be repeated.",
)
@click.option(
    "--image",
    metavar="NAME",
    help="Image of backend and workers, without a tag; by default that of the checkout's owner.",
)
@click.option(
    "--registry-user",
    metavar="NAME",
    help="User that logs in to the registry; by default the checkout's owner.",
)
@click.option(
    "--secret-source",
    type=click.Choice(_SOURCES),
    default=_SOURCES[0],
    show_default=True,
    help="Source of the secrets.",
)
# Until the release after this one: the command asked questions, which --yes answered.
@click.option(
    "--yes",
    "-y",
    is_flag=True,
    hidden=True,
    expose_value=False,
    help="Ignored: no question is asked.",
)
@inventory_option
def init(
    domain: str,
    core_host: str | None,
    nodes: tuple[str, ...],
    image: str | None,
    registry_user: str | None,
    secret_source: str,
    inventory: Path | None,
) -> None:
    """Create a commented inventory.

    Fills in the given options and validates the result. Never overwrites a file.
    """
    checkout = Checkout.find(Path.cwd())
    path = inventory or checkout.root / INVENTORY
    name = str(inventory or INVENTORY)
    if path.exists():
        raise UsageError(
            f"{name} already exists",
            hint="Edit it, move it away, or name another file with --inventory.",
        )
    owner = checkout.github_owner() or "ktrdr"
    text = render_template(
        domain=domain,
        core_host=core_host or f"backend.{domain}",
        nodes=nodes,
        image=image or f"ghcr.io/{owner}/ktrdr-backend",
        registry_user=registry_user or owner,
        secret_source=secret_source,
    )
    parse_inventory(text, shown_as=name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise ConfigurationError(
            f"{name} cannot be written: {exc.strerror}",
            hint="Name another file with --inventory.",
        ) from exc
    write_note(f"Created {name}.\n\n{_NEXT_STEPS}")
