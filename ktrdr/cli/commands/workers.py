"""`ktrdr workers`: the registered workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import click

from ktrdr.cli.connection import backend
from ktrdr.cli.render import ago, json_option, say, write_json, write_table
from ktrdr.client.backend import Backend
from ktrdr.errors import NotFound
from ktrdr.schemas import DrainMode, OperationStatus, Worker

LOOK_EVERY_S: Final = 1.0
# A clock that follows a time server is right to a fraction of this.
CLOCK_TOLERANCE_S: Final = 5.0


@click.group()
def workers() -> None:
    """Look at the registered workers, and have them make way."""


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


@workers.command()
@click.argument("target", metavar="WORKER|NODE")
@click.option(
    "--hand-over",
    is_flag=True,
    help="Checkpoint what runs there and give it to other workers, instead of finishing it.",
)
@click.option("--wait", is_flag=True, help="Return once nothing runs there any more.")
def drain(target: str, hand_over: bool, wait: bool) -> None:
    """Let a worker, or all workers of a node, take nothing new.

    That holds over restarts, until `ktrdr workers undrain`.
    """
    with backend() as api:
        target = _resolve(api, target)
        api.drain(target, DrainMode.HAND_OVER if hand_over else DrainMode.FINISH)
        say(f"{target} takes nothing new")
        if wait:
            _wait_until_idle(api, target)
            say(f"nothing runs on {target} any more")


@workers.command()
@click.argument("target", metavar="WORKER|NODE")
def undrain(target: str) -> None:
    """Let a drained worker or node take work again."""
    with backend() as api:
        target = _resolve(api, target)
        api.undrain(target)
    say(f"{target} takes work again")


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
                " ".join(filter(None, (worker.current_operation_id, worker.drain and "drained"))),
            )
            for worker in found
        ],
        empty="No worker is registered; deploy some with `ktrdr deploy workers B`.",
    )
    for node, skew_s in sorted(_wrong_clocks(found).items()):
        side = "ahead of" if skew_s > 0 else "behind"
        say(
            f"the clock of {node} is {abs(skew_s):.0f} s {side} the backend's: let both follow a"
            " time server (leases do not depend on it, tokens and logs do)"
        )


def _wrong_clocks(found: Sequence[Worker]) -> dict[str, float]:
    return {
        worker.node: worker.clock_skew_s
        for worker in found
        if worker.clock_skew_s is not None and abs(worker.clock_skew_s) > CLOCK_TOLERANCE_S
    }


def _resolve(api: Backend, name: str) -> str:
    """A worker's id or a node's host name; a node may be called by its first label."""
    known = {worker.worker_id for worker in api.workers()}
    nodes = {worker.node for worker in api.workers()}
    drained = {drain.target for drain in api.drains()}
    if name in known | nodes | drained:
        return name
    short = sorted(node for node in nodes | drained if node.partition(".")[0] == name)
    if len(short) == 1:
        return short[0]
    raise NotFound(
        f"there is no worker and no node {name!r}",
        hint="`ktrdr workers list` shows the workers; a node is the host in their URL.",
    )


def _wait_until_idle(api: Backend, target: str) -> None:
    ours = {each.worker_id for each in api.workers() if target in (each.worker_id, each.node)}
    while True:
        running = api.operations(status=OperationStatus.RUNNING.value, parts=True, limit=500)
        if not any(each.worker_id in ours for each in running.operations):
            return
        time.sleep(LOOK_EVERY_S)
