"""`ktrdr workers`: the registered workers, and draining them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import click

from ktrdr.cli.render import format_age, json_option, write_json, write_note, write_table
from ktrdr.client.backend import BackendClient, open_backend
from ktrdr.errors import Interrupted, NotFound, did_you_mean
from ktrdr.schemas import DrainMode, OperationStatus, Worker

POLL_INTERVAL_S: Final = 1.0
# A clock that follows a time server is right to a fraction of this.
CLOCK_TOLERANCE_S: Final = 5.0


@click.group()
def workers() -> None:
    """List and drain workers."""


@workers.command("list")
@json_option
def list_workers(as_json: bool) -> None:
    """List the registered workers."""
    with open_backend() as api:
        registered = api.list_workers()
    if as_json:
        write_json(registered)
    else:
        write_workers(registered)


@workers.command()
@click.argument("words", nargs=-1, required=True, metavar="WORKER|NODE")
@click.option(
    "--hand-over",
    is_flag=True,
    help="Checkpoint running operations and requeue them, instead of finishing them.",
)
@click.option("--wait", is_flag=True, help="Wait until no operation is running there.")
def drain(words: tuple[str, ...], hand_over: bool, wait: bool) -> None:
    """Give no new operations to a worker, or to all workers of a node.

    The worker or node stays drained, even if it restarts, until `ktrdr workers undrain`.
    """
    with open_backend() as api:
        target = _resolve_target(api, " ".join(words))
        api.drain(target, DrainMode.HAND_OVER if hand_over else DrainMode.FINISH)
        write_note(f"{target} is drained: it gets no new operations")
        if wait:
            try:
                _wait_until_idle(api, target)
            except KeyboardInterrupt as exc:
                text = f"the wait was interrupted; {target} stays drained"
                hint = f"Run `ktrdr workers undrain {target}` to give it operations again."
                raise Interrupted(text, hint=hint) from exc
            write_note(f"no operation is running on {target}")


@workers.command()
@click.argument("words", nargs=-1, required=True, metavar="WORKER|NODE")
def undrain(words: tuple[str, ...]) -> None:
    """Give operations to a drained worker or node again."""
    with open_backend() as api:
        target = _resolve_target(api, " ".join(words))
        api.undrain(target)
    write_note(f"{target} gets operations again")


def write_workers(workers: Sequence[Worker]) -> None:
    """Write a table of workers, and a warning for each node whose clock is wrong."""
    write_table(
        ("worker", "status", "version", "healthy", "running"),
        [
            (
                worker.worker_id,
                worker.state,
                worker.version,
                format_age(worker.last_healthy_at),
                worker.current_operation_id or "",
            )
            for worker in workers
        ],
        empty="No worker is registered; deploy some with `ktrdr deploy workers NODE`.",
    )
    for worker in workers:
        if worker.problem:
            write_note(f"{worker.worker_id} is not ready: {worker.problem}")
    wrong_clocks = {
        worker.node: worker.clock_skew_s
        for worker in workers
        if worker.clock_skew_s is not None and abs(worker.clock_skew_s) > CLOCK_TOLERANCE_S
    }
    for node, skew_s in sorted(wrong_clocks.items()):
        side = "ahead of" if skew_s > 0 else "behind"
        write_note(
            f"the clock of {node} is {abs(skew_s):.0f} s {side} the backend's: synchronise both"
            " with a time server (tokens and logs depend on clocks, leases do not)"
        )


def _resolve_target(api: BackendClient, name: str) -> str:
    """Return a worker's id or a node's host name; its first label or letter will do."""
    registered = api.list_workers()
    nodes = {worker.node for worker in registered}
    drained = {drain.target for drain in api.list_drains()}
    for spelling in (name, name.lower()):
        if spelling in {worker.worker_id for worker in registered} | nodes | drained:
            return spelling
    label = name.lower().removeprefix("workers").strip(" -")
    labels = {node: node.partition(".")[0] for node in sorted(nodes | drained)}
    matching = [node for node, own in labels.items() if own in (label, f"workers-{label}")]
    if len(matching) == 1:
        return matching[0]
    known = [*labels.values(), *(worker.worker_id for worker in registered)]
    raise NotFound(
        f"there is no worker or node {name!r}{did_you_mean(name.lower(), known)}",
        hint="List the workers with `ktrdr workers list`; a node is the host in their URL.",
    )


def _wait_until_idle(api: BackendClient, target: str) -> None:
    drained = {
        worker.worker_id
        for worker in api.list_workers()
        if target in (worker.worker_id, worker.node)
    }
    while True:
        running = api.list_operations(status=OperationStatus.RUNNING.value, parts=True, limit=500)
        if not any(operation.worker_id in drained for operation in running.operations):
            return
        time.sleep(POLL_INTERVAL_S)
