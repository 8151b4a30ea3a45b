"""The inventory that commands work with, and connections to its hosts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.homelab.inventory_file import load_inventory
from ktrdr.deployment.releases.checkout import Checkout
from ktrdr.deployment.ssh.session import SshProgram
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import KtrdrError
from ktrdr.secret import Scrubber

INVENTORY: Final = "deploy/inventory.yml"

inventory_option = click.option(
    "--inventory",
    type=click.Path(path_type=Path),
    envvar="KTRDR_INVENTORY",
    show_envvar=True,
    metavar="FILE",
    help=f"Inventory file.  [default: {INVENTORY} in the checkout]",
)


def read_inventory(
    file: Path | None, *, checkout: Checkout | None = None, settings: Sequence[str] = ()
) -> Inventory:
    """Read the given inventory, or that of the checkout.

    Args:
        file: The inventory; None for the one in the checkout.
        checkout: The checkout; by default the one around the current directory.
        settings: Overrides, ``KEY=VALUE`` each.

    Raises:
        ConfigurationError: The inventory cannot be used; the message names file, line and reason.
    """
    path = file or (checkout or Checkout.find(Path.cwd())).root / INVENTORY
    return load_inventory(
        path, shown_as=str(file or INVENTORY), environ=os.environ, settings=settings
    )


def ssh_program(inventory: Inventory) -> SshProgram:
    """Return OpenSSH as the operator has configured it, or as ``KTRDR_SSH_CONFIG`` says."""
    config = os.environ.get("KTRDR_SSH_CONFIG")
    return SshProgram(config=Path(config) if config else None, user=inventory.ssh_user)


@dataclass(frozen=True, slots=True)
class HostConnections:
    """Connections to hosts.

    Attributes:
        transport: Runs scripts on the hosts.
        scrubber: Removes secrets from all output; it has yet to learn them.
    """

    transport: SshTransport
    scrubber: Scrubber


@contextmanager
def open_connections(
    addresses: Iterable[str], inventory: Inventory, *, parallel: int
) -> Iterator[HostConnections]:
    """Start to connect to hosts in the background, without running anything there.

    The first script on a host raises its connection error.

    Args:
        addresses: Addresses of the hosts; other hosts are connected to when needed.
        inventory: Names the user to log in as.
        parallel: Number of hosts to connect to at the same time.
    """
    scrubber = Scrubber()
    transport = SshTransport(ssh_program(inventory), scrubber=scrubber)

    def connect(address: str) -> None:
        with suppress(KtrdrError):
            transport.connect(address)

    pool = ThreadPoolExecutor(parallel)
    with transport:
        try:
            for address in addresses:
                pool.submit(connect, address)
            yield HostConnections(transport, scrubber)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            # Otherwise the end of the program would wait for the connections in progress.
            transport.interrupt()
