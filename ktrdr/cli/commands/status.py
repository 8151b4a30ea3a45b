"""`ktrdr status`: everything at a glance."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ktrdr.cli.commands.operations.tables import write_operations
from ktrdr.cli.commands.workers import write_workers
from ktrdr.cli.connection import backend
from ktrdr.cli.host_tables import services_to_json, what_brings_secrets, write_services
from ktrdr.cli.hosts import inventory_option, read_inventory, ssh_program
from ktrdr.cli.render import (
    duration,
    heading,
    json_option,
    say,
    write_json,
    write_pairs,
)
from ktrdr.client.configuration import api_url
from ktrdr.deployment.deploy.result import error_to_json
from ktrdr.deployment.homelab.hosts import all_hosts
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.deployment.status import HostStatus, collect_status
from ktrdr.errors import KtrdrError
from ktrdr.schemas import BackendHealth, Operation, Worker

RECENT = 5


@dataclass(frozen=True, slots=True)
class Seen:
    """What the backend said; ``fault`` says in words why it said nothing."""

    health: BackendHealth | None = None
    workers: Sequence[Worker] = ()
    operations: Sequence[Operation] = ()
    fault: KtrdrError | None = None


@click.command()
@inventory_option
@click.option("--no-hosts", is_flag=True, help="Ask the backend alone; open no SSH connection.")
@json_option
def status(inventory: Path | None, no_hosts: bool, as_json: bool) -> None:
    """Show hosts, services, versions, workers and operations at a glance.

    Needs a token for the backend and SSH to the hosts, but no secret. What cannot be reached is
    said in its place, and makes the exit code 5.
    """
    hosts = [] if no_hosts else _survey(inventory)
    seen = _ask()
    if as_json:
        write_json(_document(hosts, seen))
    else:
        _write(hosts, seen)
    faults = [host.error for host in hosts if host.error]
    if seen.fault or faults:
        raise SystemExit(seen.fault.exit_code if seen.fault else 5)


def _survey(inventory: Path | None) -> list[HostStatus]:
    found = read_inventory(inventory)
    with SshTransport(ssh_program(found)) as transport:
        return collect_status(all_hosts(found), transport)


def _ask() -> Seen:
    try:
        with backend() as api:
            health = api.health()
            page = api.operations(limit=RECENT)
            return Seen(health, api.workers(), page.operations)
    except KtrdrError as exc:
        return Seen(fault=exc)


def _write(hosts: Sequence[HostStatus], seen: Seen) -> None:
    write_pairs(_backend_pairs(seen))
    for host in hosts:
        heading(f"{host.host.name}  {host.host.address}")
        if host.error:
            say(f"cannot be queried: {host.error.message}")
        else:
            write_services(host)
            if host.lacks_secrets:
                say(what_brings_secrets(host))
    if seen.fault:
        return
    heading("Workers")
    write_workers(seen.workers)
    heading("Latest operations")
    write_operations(list(seen.operations))


def _backend_pairs(seen: Seen) -> list[tuple[str, str]]:
    pairs = [("backend", api_url(os.environ))]
    if seen.fault:
        return [*pairs, ("status", seen.fault.message), ("hint", seen.fault.hint or "")]
    assert seen.health is not None  # noqa: S101  # without a fault there is one
    version = seen.health.version
    busy = Counter(worker.status.value for worker in seen.workers)
    counts = ", ".join(f"{number} {name}" for name, number in sorted(busy.items()))
    return [
        *pairs,
        ("status", seen.health.status),
        ("version", f"{version.image_tag} (commit {version.commit[:7]}, ktrdr {version.release})"),
        ("up for", duration(seen.health.uptime_s)),
        ("workers", counts or "none"),
    ]


def _document(hosts: Sequence[HostStatus], seen: Seen) -> dict[str, Any]:
    return {
        "backend": {
            "url": api_url(os.environ),
            "health": seen.health.model_dump(mode="json") if seen.health else None,
            "error": error_to_json(seen.fault) if seen.fault else None,
        },
        "hosts": [
            {
                "target": host.host.name,
                "host": host.host.address,
                "error": error_to_json(host.error) if host.error else None,
                "services": services_to_json(host),
            }
            for host in hosts
        ],
        "workers": [worker.model_dump(mode="json") for worker in seen.workers],
        "operations": [operation.model_dump(mode="json") for operation in seen.operations],
    }
