"""`ktrdr deploy rollback`: redeploy a release that hosts remember."""

from __future__ import annotations

from typing import Any

import click

from ktrdr.cli import completion
from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy.execution import run_plans
from ktrdr.cli.deploy.operator import new_deploy_id, signals_as_ctrl_c
from ktrdr.cli.deploy.options import batch_options, change_options
from ktrdr.cli.hosts import open_connections, read_inventory
from ktrdr.cli.render import errors_as_json_lines, write_note
from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import Plan, make_plan
from ktrdr.deployment.homelab import schema
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.homelab.hosts import select_hosts
from ktrdr.deployment.hosts.history import ALL, DeployKind
from ktrdr.deployment.hosts.history_queries import (
    HostHistory,
    fetch_histories,
    fetch_release,
    rollback_target,
)
from ktrdr.deployment.ssh.interface import Transport


@click.command(epilog=EXIT_CODES)
@click.argument(
    "hosts", nargs=-1, metavar="[core|workers NODE|all]", shell_complete=completion.complete_hosts
)
@click.option(
    "--to",
    metavar="RELEASE",
    help="Id or tag from `ktrdr deploy history`.  [default: the previous good release]",
)
@batch_options
@change_options
def rollback(hosts: tuple[str, ...], to: str | None, **options: Any) -> None:
    """Redeploy the previous release: its image, configuration and settings.

    Everything comes from the hosts themselves, so no checkout is needed. Secrets come from the
    vault as it is now.
    """
    parsed = DeployOptions(**options)
    with errors_as_json_lines(parsed.as_json):
        inventory = read_inventory(parsed.inventory, settings=parsed.settings)
        selected = select_hosts(inventory, hosts)
    addresses = [host.address for host in selected]
    with (
        signals_as_ctrl_c(),
        open_connections(addresses, inventory, parallel=parsed.parallel) as connections,
    ):
        with errors_as_json_lines(parsed.as_json):
            histories = fetch_histories(selected, connections.transport)
            plans = _plan(Homelab(inventory), histories, to, parsed, connections.transport)
        run_plans(plans, inventory, connections)


def _plan(
    product: Homelab,
    histories: list[HostHistory],
    to: str | None,
    options: DeployOptions,
    transport: Transport,
) -> list[Plan]:
    deploy_id = new_deploy_id()
    targets = [rollback_target(history, to) for history in histories]
    if not options.skip_validation:
        core, *_ = product.hosts
        remembered = [entry for history in histories for entry in history.entries]
        for entry in {entry.tag: entry for entry in targets}.values():
            schema.require_compatible(core, entry, remembered, transport)
    plans = [
        make_plan(
            product,
            history.host,
            fetch_release(history.host, entry, transport),
            deploy_id,
            options,
            # A rollback from the last deploy leaves alone what that deploy left alone.
            service=entry.service if to else history.entries[-1].service,
            kind=DeployKind.ROLLBACK,
            redeploy_of=entry,
            rolled_back_from=history.entries[-1].id,
            is_alone=all(each.host.node for each in histories),
        )
        for history, entry in zip(histories, targets, strict=True)
    ]
    for plan, history, entry in zip(plans, histories, targets, strict=True):
        last = history.entries[-1]
        name = plan.host.name if plan.service == ALL else f"{plan.host.name} {plan.service}"
        write_note(
            f"{name}: {entry.tag} (release {entry.id} of {entry.deploy.at:%Y-%m-%d %H:%M} UTC) "
            f"replaces {last.tag} (release {last.id}, {last.outcome.value})"
        )
    return plans
