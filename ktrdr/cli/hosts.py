"""The inventory that commands work with, and the way to its hosts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.homelab.inventory_file import load_inventory
from ktrdr.deployment.releases.checkout import Checkout
from ktrdr.deployment.ssh.program import SshProgram

INVENTORY: Final = "deploy/inventory.yml"

inventory_option = click.option(
    "--inventory",
    type=click.Path(path_type=Path),
    envvar="KTRDR_INVENTORY",
    show_envvar=True,
    metavar="FILE",
    help=f"Where the hosts are listed; by default {INVENTORY} in the checkout.",
)


def read_inventory(
    given: Path | None, *, checkout: Checkout | None = None, settings: Sequence[str] = ()
) -> Inventory:
    """The inventory that was named, or that of the checkout.

    Args:
        given: The file, where one was named.
        checkout: The checkout; by default the one around the current directory.
        settings: ``KEY=VALUE`` for each value that is to be another.

    Raises:
        ConfigurationError: It cannot be used; the message names file, line and reason.
    """
    file = given or (checkout or Checkout.find(Path.cwd())).root / INVENTORY
    return load_inventory(
        file,
        shown_as=str(given or INVENTORY),
        environ=os.environ,
        settings=settings,
    )


def ssh_program(inventory: Inventory) -> SshProgram:
    """OpenSSH as the operator has set it up, or as ``KTRDR_SSH_CONFIG`` says."""
    config = os.environ.get("KTRDR_SSH_CONFIG")
    return SshProgram(config=Path(config) if config else None, user=inventory.ssh_user)
