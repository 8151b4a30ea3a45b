"""Drain of a node: its workers finish their operations before a deploy replaces them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy.host_deployment import HostDeployment
from ktrdr.deployment.hosts.history import DeployOutcome
from ktrdr.deployment.product import Backend
from ktrdr.errors import KtrdrError

if TYPE_CHECKING:
    from ktrdr.schemas import Worker

_TITLE: Final = "drain the node"
_POLL_INTERVAL_S: Final = 1.0


@contextmanager
def drained(deployment: HostDeployment, backend: Backend, timeout_s: float) -> Iterator[None]:
    """Give a node no new operations within a block; first wait for running ones.

    Args:
        deployment: Deploy that replaces the node's workers.
        backend: The backend.
        timeout_s: Maximum wait (s). After it, running operations are checkpointed and requeued.

    Raises:
        KtrdrError: The backend cannot be asked.
    """
    node = deployment.plan.host.network_name
    # The drain of a deploy that was cut off ends with this one.
    was_drained = _is_drained(backend.workers(), node) and not deployment.abandoned_drains
    if not was_drained:
        deployment.record_drain(DeployOutcome.CUT_OFF)
        backend.drain(node)
    try:
        _wait_until_idle(deployment, backend, timeout_s)
        yield
    finally:
        if was_drained:
            _warn(deployment, f"{node} was drained before, and stays drained")
        else:
            try:
                backend.undrain(node)
                deployment.record_drain(DeployOutcome.DONE)
            except KtrdrError as error:
                _warn(deployment, f"{node} gets no new operations ({error.message})")


def _wait_until_idle(deployment: HostDeployment, backend: Backend, timeout_s: float) -> None:
    node, clock, observe = deployment.plan.host.network_name, deployment.clock, deployment.observe
    began = clock.monotonic()
    observe(events.StepStarted(_TITLE, node))
    try:
        while running := _running_operations(backend.workers(), node):
            if clock.monotonic() - began >= timeout_s or deployment.stopping.is_set():
                break
            observe(events.Waiting(f"{len(running)} running: {', '.join(running)}"))
            clock.sleep(_POLL_INTERVAL_S)
    except KtrdrError:
        observe(events.StepFailed(_TITLE, clock.monotonic() - began))
        raise
    detail = f"{len(running)} still running, to be requeued" if running else "no running operation"
    observe(events.StepFinished(_TITLE, clock.monotonic() - began, detail))


def _is_drained(workers: Sequence[Worker], node: str) -> bool:
    """Return whether all workers of a node are drained, as another operator requested."""
    drains = [worker.drain is not None for worker in workers if worker.node == node]
    return bool(drains) and all(drains)


def _running_operations(workers: Sequence[Worker], node: str) -> list[str]:
    return [
        worker.current_operation_id
        for worker in workers
        if worker.node == node and worker.current_operation_id
    ]


def _warn(deployment: HostDeployment, message: str) -> None:
    command = f"ktrdr workers undrain {deployment.plan.host.network_name}"
    deployment.observe(events.Warned(f"{message}; run `{command}` to give it operations again"))
