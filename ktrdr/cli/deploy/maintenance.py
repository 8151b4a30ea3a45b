"""What `restart`, `stop`, `down` and `prune` have in common: their options and their end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
from rich.text import Text

from ktrdr.cli import completion
from ktrdr.cli.deploy import dependencies as world
from ktrdr.cli.deploy.connections import signals_as_ctrl_c
from ktrdr.cli.deploy.options import lock_wait_option
from ktrdr.cli.hosts import inventory_option, ssh_program
from ktrdr.cli.render import console, json_option, write_error, write_json
from ktrdr.deployment.deploy.result import SCHEMA, error_to_json
from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.hosts.lock import Held, Owner
from ktrdr.deployment.hosts.locked_hosts import Done, Manner, look_at_each, on_each
from ktrdr.deployment.ssh.transport import SshTransport

_Result = TypeVar("_Result")
_Command = TypeVar("_Command", bound=Callable[..., None])

hosts_argument = click.argument(
    "hosts", nargs=-1, required=True, shell_complete=completion.complete_hosts
)
service_option = click.option(
    "--service",
    "services",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.complete_services,
    help="Only this one; may be repeated.",
)
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def keeping(command: _Command) -> _Command:
    """The options of all of them."""
    for option in (json_option, inventory_option, lock_wait_option, hosts_argument):
        command = option(command)
    return command


class Work:
    """One thing that is done on hosts.

    Attributes:
        transport: The way to them.
        stopping: Set when the operator wants everything to stop.
    """

    def __init__(self, inventory: Inventory, reason: str, lock_wait_s: float) -> None:
        self.transport = SshTransport(ssh_program(inventory))
        self.stopping = threading.Event()
        stamp = world.stamp()
        owner = Owner(stamp.id, stamp.who, reason, stamp.at)
        self._manner = Manner(self.transport, owner, lock_wait_s, self.stopping)

    def on_each(
        self, places: Sequence[Place], act: Callable[[Place, Held], _Result]
    ) -> list[Done[_Result]]:
        """Does it on all of them; see `together.on_each`."""
        with signals_as_ctrl_c(), self.transport:
            return on_each(places, act, self._manner)

    def look_at_each(
        self, places: Sequence[Place], look: Callable[[Place], _Result]
    ) -> list[Done[_Result]]:
        """The same without locks, for what changes nothing."""
        with signals_as_ctrl_c(), self.transport:
            return look_at_each(places, look, self._manner)


def teller(place: Place) -> Callable[[str], None]:
    """Tells what happens on a host, a line each, on standard error."""

    def tell(text: str) -> None:
        line = Text.assemble((f"{place.name:<10} ", "dim"), text)
        console(err=True).print(line, soft_wrap=True)

    return tell


def counted(things: Sequence[object], name: str) -> str:
    """How many there are, in words."""
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def finish(
    done: Sequence[Done[_Result]],
    *,
    as_json: bool,
    to_json: Callable[[_Result], Mapping[str, Any]],
    show: Callable[[Place, _Result], None],
) -> None:
    """Shows what came of it everywhere, and exits with the code of the first host that failed."""
    if as_json:
        write_json({"schema": SCHEMA, "hosts": [_document(each, to_json) for each in done]})
    for each in done:
        if each.result is not None and not as_json:
            show(each.place, each.result)
    failed = [each.error for each in done if each.error]
    for error in failed:
        write_error(error)
    if failed:
        raise SystemExit(failed[0].exit_code)


def _document(
    each: Done[_Result], to_json: Callable[[_Result], Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        "target": each.place.name,
        "host": each.place.host,
        "ok": each.error is None,
        "error": error_to_json(each.error) if each.error else None,
        **(to_json(each.result) if each.result is not None else {}),
    }
