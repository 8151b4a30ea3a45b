"""`ktrdr host`: prepare hosts for the first deploy."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
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
from ktrdr.cli.render import console, count_of, json_option, write_line, write_note
from ktrdr.deployment.homelab.hosts import select_hosts
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.homelab.preparation import host_requirements
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.lock import LockOwner
from ktrdr.deployment.hosts.parallel import HostOutcome, HostRunContext, for_each_host
from ktrdr.deployment.prepare.plan import (
    Preparation,
    facts_script,
    make_preparation,
    plan_undo,
)
from ktrdr.deployment.prepare.requirements import HostRequirements
from ktrdr.deployment.prepare.run import HostPreparer
from ktrdr.deployment.scripts.script import render_for_display
from ktrdr.deployment.ssh.session import SshProgram
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import HostUnreachable

_WOULD_CHANGE: Final = 10
_STYLES: Final = {"*": "bold", "!": "yellow", "    +": "green", "    -": "red"}


@click.group()
def host() -> None:
    """Prepare hosts for the first deploy."""


@host.command(epilog=EXIT_CODES)
@hosts_argument
@click.option(
    "--docker-packages",
    type=click.Choice(("docker", "distribution")),
    help="Install Docker from its own repository, or the distribution's packages.  "
    "[default: as in the inventory]",
)
@click.option("--check", is_flag=True, help="Show what would change; exit with 10 if anything.")
@click.option("--undo", is_flag=True, help="Remove the firewall rules and the mount of the share.")
@click.option("--dry-run", is_flag=True, help="Print the scripts only; contact no host.")
@yes_option
@inventory_option
@set_option
@json_option
def prepare(
    hosts: tuple[str, ...],
    docker_packages: str | None,
    check: bool,
    undo: bool,
    dry_run: bool,
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
    requirements = _requirements(known, hosts, docker_packages, undo=undo)
    owner = LockOwner(operator.new_deploy_id(), "host prepare")
    if dry_run:
        for each in requirements.values():
            _print_scripts(each, owner, undo=undo)
        return
    with operator.signals_as_ctrl_c(), SshTransport(ssh_program(known)) as transport:
        context = HostRunContext(transport, owner, 0.0, threading.Event())
        preparers = {
            host: HostPreparer(each, transport, owner, undo) for host, each in requirements.items()
        }
        examined = for_each_host(list(preparers), lambda host: preparers[host].examine(), context)
        planned = [each for each in examined if not _is_dispensable(each, requirements)]
        plans = {each.host: each.result for each in planned if each.result}
        changing = [host for host, plan in plans.items() if plan.changes]
        if check or not changing or len(plans) < len(planned):
            print_results(planned, as_json=as_json, to_json=_to_json, show=_show)
            raise SystemExit(_WOULD_CHANGE if changing else 0)
        if not as_json:
            for host, plan in plans.items():
                _show(host, plan)
        names = ", ".join(host.name for host in changing)
        if not yes:
            operator.confirm(f"Change {names}?", [f"{names} will be changed"])

        def apply(host: Host) -> Preparation:
            show_progress = progress_printer(host)
            return preparers[host].apply(
                plans[host], lambda line: show_progress(line) if line[:1] in "*!" else None
            )

        made = for_each_host(changing, apply, context)
    print_results(made, as_json=as_json, to_json=_to_json, show=_show_done)


def _requirements(
    inventory: Inventory, words: Sequence[str], docker_packages: str | None, *, undo: bool
) -> dict[Host, HostRequirements]:
    """Return the requirements on the named hosts, and on the core's firewall for named nodes."""
    hosts = select_hosts(inventory, words)
    core, *_ = select_hosts(inventory, ())
    more = [core] if core not in hosts and not undo else []
    return {
        host: host_requirements(inventory, host, docker_packages, only_firewall=host not in hosts)
        for host in (*hosts, *more)
    }


def _is_dispensable(
    outcome: HostOutcome[Preparation], requirements: Mapping[Host, HostRequirements]
) -> bool:
    """Return whether a core that was not named needs no mention; note if it is unreachable."""
    if not requirements[outcome.host].only_firewall:
        return False
    if isinstance(outcome.error, HostUnreachable):
        write_note(f"note: the firewall of the core was not examined: {outcome.error.message}")
        return True
    return outcome.result is not None and not outcome.result.changes


def _print_scripts(requirements: HostRequirements, owner: LockOwner, *, undo: bool) -> None:
    """Print the scripts for a host that was not asked: those for a fresh Debian."""
    preparation = plan_undo(requirements) if undo else make_preparation(requirements, {})
    if not preparation.arguments:
        return
    preparer = HostPreparer(requirements, SshTransport(SshProgram()), owner, undo)
    facts = [] if undo else [facts_script(requirements)]
    for script in (*facts, preparer.script(preparation, "apply")):
        host = requirements.host
        write_line(f"# {host.name} on {host.address}, as root, if it is a fresh Debian:")
        write_line(render_for_display(script))


def _show(host: Host, plan: Preparation) -> None:
    """Print what would change on a host, and what the operator should know."""
    title = f"  {host.address}  {plan.system}"
    console().print(Text.assemble((host.name, "bold"), (title, "dim")), soft_wrap=True)
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
