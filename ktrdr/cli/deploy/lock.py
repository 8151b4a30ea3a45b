"""`ktrdr deploy lock`: show and release the locks of hosts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import click

from ktrdr.cli import completion
from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy import operator
from ktrdr.cli.hosts import inventory_option, read_inventory, ssh_program
from ktrdr.cli.render import json_option, write_json, write_table
from ktrdr.deployment.deploy.result import SCHEMA, error_to_json
from ktrdr.deployment.homelab.hosts import select_hosts
from ktrdr.deployment.hosts.actions import HistoryAction
from ktrdr.deployment.hosts.history import DeployOutcome
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.lock import LockOwner, break_lock, fetch_lock_owner
from ktrdr.deployment.hosts.parallel import HostOutcome, map_hosts
from ktrdr.deployment.ssh.interface import Transport
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import KtrdrError

# Without a result and an error, the lock is free.
_LockState = HostOutcome[LockOwner]
_HOSTS = click.argument(
    "hosts", nargs=-1, metavar="[core|workers NODE|all]", shell_complete=completion.complete_hosts
)


@click.group(epilog=EXIT_CODES)
def lock() -> None:
    """Show who holds the lock of a host, or release it.

    A lock is released when its owner's connection ends: on Ctrl-C, after a crash, or 45 seconds
    after the owner's machine stops responding. It rarely has to be released manually.
    """


@lock.command(epilog=EXIT_CODES)
@_HOSTS
@inventory_option
@json_option
def show(hosts: tuple[str, ...], inventory: Path | None, as_json: bool) -> None:
    """Show who holds the lock of each host, since when, and why."""
    _print(_for_each_host(fetch_lock_owner, hosts, inventory), as_json=as_json)


@lock.command(epilog=EXIT_CODES)
@_HOSTS
@click.option("--yes", "-y", is_flag=True, help="Skip confirmations.")
@inventory_option
@json_option
def release(hosts: tuple[str, ...], yes: bool, inventory: Path | None, as_json: bool) -> None:
    """Release the lock of hosts.

    A deploy that holds it changes nothing more, and its host goes back to the last good release.
    """
    states = _for_each_host(fetch_lock_owner, hosts, inventory)
    locked = [f"{state.host.name} is locked by {state.result}" for state in states if state.result]
    if locked and not yes:
        operator.confirm(f"{'; '.join(locked)}\nRelease the lock?", locked)
    if locked:
        reasons = {state.host.name: f"held by {state.result}" for state in states if state.result}
        action = HistoryAction(operator.new_deploy_id(), "lock release", outcome=DeployOutcome.DONE)

        def break_recorded(transport: Transport, host: Host) -> LockOwner | None:
            reason = reasons.get(host.name, "")
            return break_lock(transport, host, replace(action, reason=reason).event())

        states = _for_each_host(break_recorded, hosts, inventory)
    _print(states, as_json=as_json, is_released=True)


def _for_each_host(
    function: Callable[[Transport, Host], LockOwner | None],
    hosts: tuple[str, ...],
    inventory: Path | None,
) -> list[_LockState]:
    known = read_inventory(inventory)
    with SshTransport(ssh_program(known)) as transport:

        def attempt(host: Host) -> _LockState:
            try:
                return HostOutcome(host, function(transport, host))
            except KtrdrError as error:
                return HostOutcome(host, error=error)

        return map_hosts(attempt, select_hosts(known, hosts), transport)


def _print(states: Sequence[_LockState], *, as_json: bool, is_released: bool = False) -> None:
    """Print the locks; raise the first error."""
    if as_json:
        write_json({"schema": SCHEMA, "hosts": [_to_json(state) for state in states]})
    else:
        write_table(
            ("host", "lock", "owner", "since", "reason"),
            [_row(state, "released" if is_released else "held") for state in states],
            empty="The inventory names no host.",
        )
    for state in states:
        if state.error:
            raise state.error


def _row(state: _LockState, held: str) -> tuple[str, ...]:
    name, owner = state.host.name, state.result
    if state.error:
        return (name, "unknown", "", "", state.error.message)
    if owner is None:
        return (name, "free", "", "", "")
    return (name, held, owner.deploy.who, f"{owner.deploy.at:%Y-%m-%d %H:%M:%S}", owner.reason)


def _to_json(state: _LockState) -> dict[str, object]:
    owner = state.result
    return {
        "target": state.host.name,
        "host": state.host.address,
        "held": owner is not None,
        "id": owner.deploy.id if owner else None,
        "who": owner.deploy.who if owner else None,
        "since": owner.deploy.at.isoformat() if owner else None,
        "reason": owner.reason if owner else None,
        "error": error_to_json(state.error) if state.error else None,
    }
