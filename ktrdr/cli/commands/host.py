"""`ktrdr host`: prepare hosts for the first deploy."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Final

import click
from rich.text import Text

from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy import operator
from ktrdr.cli.deploy.maintenance import (
    hosts_argument,
    print_results,
    progress_printer,
    yes_option,
)
from ktrdr.cli.deploy.options import set_option
from ktrdr.cli.hosts import inventory_option, read_inventory, ssh_program
from ktrdr.cli.render import console, count_of, json_option, write_note
from ktrdr.deployment.homelab.hosts import select_hosts
from ktrdr.deployment.homelab.preparation import host_requirements
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.lock import LockOwner
from ktrdr.deployment.hosts.parallel import HostRunContext, for_each_host
from ktrdr.deployment.prepare.plan import Preparation
from ktrdr.deployment.prepare.run import apply, examine
from ktrdr.deployment.ssh.transport import SshTransport

_WOULD_CHANGE: Final = 10
_STYLES: Final = {"*": "bold", "!": "yellow", "    +": "green", "    -": "red"}


@click.group()
def host() -> None:
    """Prepare hosts for the first deploy."""


@host.command(epilog=EXIT_CODES)
@hosts_argument
@click.option("--dry-run", is_flag=True, help="Show what would change; exit with 10 if anything.")
@click.option("--undo", is_flag=True, help="Remove the firewall rules and the mount of the share.")
@yes_option
@inventory_option
@set_option
@json_option
def prepare(
    hosts: tuple[str, ...],
    dry_run: bool,
    undo: bool,
    yes: bool,
    inventory: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Install Docker, and set up users, directories, the share and a firewall.

    HOSTS are core, workers NODE, workers all or all. Shows what would change, and asks before the
    first change. Run it again at any time: it changes only what differs. A new node also needs the
    firewall of the core, which is updated with it.
    """
    known = read_inventory(inventory, settings=settings)
    named = select_hosts(known, hosts)
    core, *_ = select_hosts(known, ())
    requirements = {
        host: host_requirements(known, host, only_firewall=host not in named)
        for host in (named if undo else dict.fromkeys((*named, core)))
    }
    owner = LockOwner(operator.new_deploy_id(), "host prepare")
    with operator.signals_as_ctrl_c(), SshTransport(ssh_program(known)) as transport:
        context = HostRunContext(transport, owner, 0.0, threading.Event())

        def examine_host(host: Host) -> Preparation:
            return examine(requirements[host], transport, undo=undo)

        examined = for_each_host(list(requirements), examine_host, context)
        outcomes = []
        for each in examined:
            if each.host in named or (each.result and each.result.changes):
                outcomes.append(each)
            elif each.error:
                write_note(f"note: the firewall of the core is not updated: {each.error.message}")
        plans = {each.host: each.result for each in outcomes if each.result}
        changing = [host for host, plan in plans.items() if plan.changes]
        if dry_run or not changing or len(plans) < len(outcomes):
            print_results(outcomes, as_json=as_json, to_json=_to_json, show=_show)
            raise SystemExit(_WOULD_CHANGE if changing else 0)
        if not as_json:
            for host, plan in plans.items():
                _show(host, plan)
        names = ", ".join(host.name for host in changing)
        if not yes:
            operator.confirm(f"Change {names}?", [f"{names} will be changed"])

        def apply_plan(host: Host) -> Preparation:
            return apply(host, plans[host], transport, owner, progress_printer(host))

        made = for_each_host(changing, apply_plan, context)
    print_results(made, as_json=as_json, to_json=_to_json, show=_show_done)


def _show(host: Host, plan: Preparation) -> None:
    """Print what would change on a host, and what the operator should know."""
    console().print(Text.assemble((host.name, "bold"), (f"  {host.address}", "dim")))
    notes = (f"! {note}" for note in plan.notes)
    nothing = () if plan.changes else ("Nothing would change.",)
    for line in (*plan.lines, *notes, *nothing):
        style = next((style for start, style in _STYLES.items() if line.startswith(start)), "")
        console().print(Text(f"  {line}", style=style), soft_wrap=True)


def _show_done(host: Host, plan: Preparation) -> None:
    text = f"{host.name}: {count_of(plan.changes, 'change')} made"
    console().print(Text.assemble(("✓ ", "green"), text), soft_wrap=True)


def _to_json(plan: Preparation) -> dict[str, Any]:
    notes = [line[2:] for line in plan.lines if line.startswith("! ")]
    return {"changes": plan.changes, "notes": [*notes, *plan.notes]}
