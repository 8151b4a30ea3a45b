"""`ktrdr status`: overview of hosts, services, workers and operations."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from ktrdr.cli.commands.workers import write_workers
from ktrdr.cli.host_tables import services_to_json, write_services
from ktrdr.cli.hosts import inventory_option, read_inventory, ssh_program
from ktrdr.cli.operation_tables import write_operations
from ktrdr.cli.render import (
    format_duration,
    json_option,
    write_heading,
    write_json,
    write_note,
    write_pairs,
)
from ktrdr.client.backend import open_backend
from ktrdr.client.configuration import read_api_url
from ktrdr.deployment.deploy.result import error_to_json
from ktrdr.deployment.homelab.hosts import all_hosts
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.deployment.status import HostStatus, collect_status
from ktrdr.errors import Conflict, HostUnreachable, KtrdrError
from ktrdr.schemas import BackendHealth, Drain, Operation, Worker

RECENT_OPERATIONS: Final = 5


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """Status of the backend, its workers and the latest operations."""

    health: BackendHealth
    workers: Sequence[Worker]
    operations: Sequence[Operation]
    drains: Sequence[Drain]


@click.command()
@inventory_option
@click.option("--no-hosts", is_flag=True, help="Query only the backend, without SSH.")
@json_option
def status(inventory: Path | None, no_hosts: bool, as_json: bool) -> None:
    """Show hosts, services, versions, workers and operations.

    Needs a token for the backend and SSH to the hosts, but no secrets. Exits with code 5 if
    something is unreachable, after showing the rest, or else with 9 if a command was cut off on a
    host.
    """
    hosts: list[HostStatus] = []
    if not no_hosts:
        known = read_inventory(inventory)
        with SshTransport(ssh_program(known)) as transport:
            hosts = collect_status(all_hosts(known), transport)
    backend = _query_backend()
    if as_json:
        write_json(_to_json(hosts, backend))
    else:
        _write(hosts, backend)
    if isinstance(backend, KtrdrError):
        raise SystemExit(backend.exit_code)
    if any(host.error for host in hosts):
        raise SystemExit(HostUnreachable.exit_code)
    if any(host.unfinished for host in hosts):
        raise SystemExit(Conflict.exit_code)


def _query_backend() -> BackendStatus | KtrdrError:
    try:
        with open_backend() as api:
            return BackendStatus(
                api.get_health(),
                api.list_workers(),
                api.list_operations(limit=RECENT_OPERATIONS).operations,
                api.list_drains(),
            )
    except KtrdrError as error:
        return error


def _write(hosts: Sequence[HostStatus], backend: BackendStatus | KtrdrError) -> None:
    write_pairs([("backend", read_api_url(os.environ)), *_backend_pairs(backend)])
    for host in hosts:
        write_heading(f"{host.host.name}  {host.host.address}")
        if host.error:
            write_note(f"status unknown: {host.error.message}")
            continue
        write_services(host)
        write_pairs(host.next_steps)
    if isinstance(backend, BackendStatus):
        write_heading("Workers")
        write_workers(backend.workers)
        for drain in backend.drains:
            command = f"ktrdr workers undrain {drain.target}"
            write_note(f"{drain.target} is drained by {drain.requested_by}: run `{command}`")
        write_heading("Latest operations")
        write_operations(backend.operations)


def _backend_pairs(backend: BackendStatus | KtrdrError) -> list[tuple[str, str]]:
    if isinstance(backend, KtrdrError):
        return [("status", backend.message), ("hint", backend.hint or "")]
    version = backend.health.version
    counts = Counter(worker.state for worker in backend.workers)
    workers = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return [
        ("status", backend.health.status),
        *([("problem", problem.message)] if (problem := backend.health.problem) else []),
        ("version", f"{version.image_tag} (commit {version.commit[:7]}, ktrdr {version.release})"),
        ("uptime", format_duration(backend.health.uptime_s)),
        ("workers", workers or "none"),
    ]


def _to_json(hosts: Sequence[HostStatus], backend: BackendStatus | KtrdrError) -> dict[str, Any]:
    error = backend if isinstance(backend, KtrdrError) else None
    answer = backend if isinstance(backend, BackendStatus) else None
    return {
        "backend": {
            "url": read_api_url(os.environ),
            "health": answer.health.model_dump(mode="json") if answer else None,
            "error": error_to_json(error) if error else None,
        },
        "hosts": [
            {
                "target": host.host.name,
                "host": host.host.address,
                "error": error_to_json(host.error) if host.error else None,
                "services": services_to_json(host),
                "next_steps": [{"state": state, "step": step} for state, step in host.next_steps],
            }
            for host in hosts
        ],
        "workers": [worker.model_dump(mode="json") for worker in answer.workers] if answer else [],
        "operations": [op.model_dump(mode="json") for op in answer.operations] if answer else [],
    }
