"""Common parts of the maintenance commands: `restart`, `stop`, `down` and `prune`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import click
from rich.text import Text

from ktrdr.cli import completion
from ktrdr.cli.cli import with_options
from ktrdr.cli.deploy.operator import new_deploy_id, signals_as_ctrl_c
from ktrdr.cli.deploy.options import lock_wait_option
from ktrdr.cli.hosts import inventory_option, ssh_program
from ktrdr.cli.render import console, json_option, write_error, write_json
from ktrdr.deployment.deploy.result import SCHEMA, error_to_json
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.lock import HostLock, LockOwner
from ktrdr.deployment.hosts.parallel import (
    HostOutcome,
    HostRunContext,
    for_each_host,
    for_each_locked_host,
)
from ktrdr.deployment.services import ServiceManager
from ktrdr.deployment.ssh.transport import SshTransport

_Result = TypeVar("_Result")

hosts_argument = click.argument(
    "hosts", nargs=-1, required=True, shell_complete=completion.complete_hosts
)
service_option = click.option(
    "--service",
    "services",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.complete_services,
    help="Only this service. May be repeated.",
)
yes_option = click.option("--yes", "-y", is_flag=True, help="Skip confirmations.")
maintenance_options: Final = with_options(
    hosts_argument, lock_wait_option, inventory_option, json_option
)


class MaintenanceRun:
    """Run of one maintenance command on several hosts.

    Attributes:
        product: Knowledge of the deployed software.
        transport: Connections to the hosts.
        stopping: Set when the operator interrupts the command.
    """

    def __init__(
        self, inventory: Inventory, reason: str, lock_wait_s: float, *, subject: str = ""
    ) -> None:
        """Create the run without connecting.

        Args:
            inventory: The inventory.
            reason: Reason that locks and histories record.
            lock_wait_s: Maximum wait for another owner of a lock (s).
            subject: What it changes, as histories record it; empty for the whole host.
        """
        self.product = Homelab(inventory)
        self.transport = SshTransport(ssh_program(inventory))
        self.stopping = threading.Event()
        owner = LockOwner(new_deploy_id(), reason)
        self._context = HostRunContext(self.transport, owner, lock_wait_s, self.stopping, subject)

    def service_manager(
        self, host: Host, lock: HostLock, *, health_timeout_s: float = 0.0
    ) -> ServiceManager:
        """Return the manager of a host's services; it shows its progress on standard error."""
        return ServiceManager(
            host=host,
            lock=lock,
            product=self.product,
            transport=self.transport,
            show_progress=progress_printer(host),
            health_timeout_s=health_timeout_s,
            stopping=self.stopping,
        )

    def for_each_locked_host(
        self, hosts: Sequence[Host], function: Callable[[Host, HostLock], _Result]
    ) -> list[HostOutcome[_Result]]:
        """Call a function for each host under its lock; see `parallel.for_each_locked_host`."""
        with signals_as_ctrl_c(), self.transport:
            return for_each_locked_host(hosts, function, self._context)

    def for_each_host(
        self, hosts: Sequence[Host], function: Callable[[Host], _Result]
    ) -> list[HostOutcome[_Result]]:
        """Call a function that changes nothing for each host, without locks."""
        with signals_as_ctrl_c(), self.transport:
            return for_each_host(hosts, function, self._context)


def progress_printer(host: Host) -> Callable[[str], None]:
    """Return a function that prints the progress on a host to standard error."""

    def show_progress(text: str) -> None:
        line = Text.assemble((f"{host.name:<10} ", "dim"), text)
        console(err=True).print(line, soft_wrap=True)

    return show_progress


def print_results(
    outcomes: Sequence[HostOutcome[_Result]],
    *,
    as_json: bool,
    to_json: Callable[[_Result], Mapping[str, Any]],
    show: Callable[[Host, _Result], None],
) -> None:
    """Print the result of each host; exit with the code of the first error, if there is one."""
    if as_json:
        documents = [_outcome_to_json(outcome, to_json) for outcome in outcomes]
        write_json({"schema": SCHEMA, "hosts": documents})
    for outcome in outcomes:
        if outcome.result is not None and not as_json:
            show(outcome.host, outcome.result)
    errors = [outcome.error for outcome in outcomes if outcome.error]
    for error in errors:
        write_error(error)
    if errors:
        raise SystemExit(errors[0].exit_code)


def _outcome_to_json(
    outcome: HostOutcome[_Result], to_json: Callable[[_Result], Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        "target": outcome.host.name,
        "host": outcome.host.address,
        "ok": outcome.error is None,
        "error": error_to_json(outcome.error) if outcome.error else None,
        **(to_json(outcome.result) if outcome.result is not None else {}),
    }
