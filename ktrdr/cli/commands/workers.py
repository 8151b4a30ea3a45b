"""`ktrdr workers`: the registered workers."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ktrdr.cli.connection import backend
from ktrdr.cli.render import ago, json_option, write_json, write_table
from ktrdr.contracts import Worker


@click.group()
def workers() -> None:
    """Look at the registered workers."""


@workers.command("list")
@json_option
def list_workers(as_json: bool) -> None:
    """List the registered workers."""
    with backend() as api:
        found = api.workers()
    if as_json:
        write_json(found)
    else:
        write_workers(found)


def write_workers(found: Sequence[Worker]) -> None:
    """A line a worker."""
    write_table(
        ("worker", "status", "version", "healthy", "running"),
        [
            (
                worker.worker_id,
                worker.status.value,
                worker.version,
                ago(worker.last_healthy_at),
                worker.current_operation_id or "",
            )
            for worker in found
        ],
        empty="No worker is registered; deploy some with `ktrdr deploy workers B`.",
    )
