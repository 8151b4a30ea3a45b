"""`ktrdr deploy watch`: follow deploys that hosts are finishing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from ktrdr.cli import completion
from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.hosts import inventory_option, read_inventory, ssh_program
from ktrdr.cli.render import write_line
from ktrdr.deployment.homelab.hosts import select_hosts
from ktrdr.deployment.hosts.history import DeployKind
from ktrdr.deployment.hosts.history_queries import fetch_histories
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.parallel import map_hosts
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.interface import Stream
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import DeploymentFailed

# A deploy has its own limits, which are shorter.
_TIMEOUT_S: Final = 7200.0


@click.command(epilog=EXIT_CODES)
@click.argument(
    "hosts", nargs=-1, metavar="[core|workers NODE|all]", shell_complete=completion.complete_hosts
)
@inventory_option
def watch(hosts: tuple[str, ...], inventory: Path | None) -> None:
    """Follow the deploys in progress until they end, and show how they ended.

    Any operator may watch a deploy. Ctrl-C ends the watching, not the deploy.
    """
    known = read_inventory(inventory)
    selected = select_hosts(known, hosts)
    with SshTransport(ssh_program(known)) as transport:

        def follow(host: Host) -> None:
            def show(_stream: Stream, line: str) -> None:
                write_line(f"{host.name}: {line.partition(' ')[2]}")

            script = render(Script("scripts/watch.sh", (host.workdir,)), {})
            transport.run(host.address, script, timeout_s=_TIMEOUT_S, on_line=show)

        map_hosts(follow, selected, transport)
        histories = fetch_histories(selected, transport)
    failed = []
    for history in histories:
        if history.error:
            raise history.error
        if not history.entries:
            write_line(f"{history.host.name}: nothing was deployed yet")
            continue
        *_, last = history.entries
        # The last deploy, and the rollback from it.
        shown = [each for each in history.entries if each.id in (last.id, last.rolled_back_from)]
        for entry in shown if last.kind is DeployKind.AUTOMATIC_ROLLBACK else [last]:
            reason = f": {entry.reason}" if entry.reason else ""
            write_line(f"{history.host.name}: {entry.kind} of {entry.tag} {entry.outcome}{reason}")
            if not entry.outcome.is_good and history.host.name not in failed:
                failed.append(history.host.name)
    if failed:
        raise DeploymentFailed(
            f"the last deploy to {', '.join(failed)} failed",
            hint="See `ktrdr deploy history`, fix the cause, then deploy.",
        )
