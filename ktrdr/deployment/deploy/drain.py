"""Lets the workers of a node finish what they are at before they are replaced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy.host_deployment import Runner
from ktrdr.errors import KtrdrError

if TYPE_CHECKING:
    from ktrdr.schemas import Worker

_TITLE: Final = "let workers finish"
_LOOK_EVERY_S: Final = 1.0


class Drains(Protocol):
    """What the backend is asked for."""

    def drain(self, node: str) -> None:
        """Gives a node no new work.

        Raises:
            KtrdrError: The backend cannot be asked.
        """
        ...

    def undrain(self, node: str) -> None:
        """Gives it work again; one that was not drained is left as it is."""
        ...

    def workers(self) -> Sequence[Worker]:
        """All workers that the backend knows."""
        ...


@contextmanager
def drained(drains: Drains, runner: Runner, patience_s: float) -> Iterator[None]:
    """Keeps new work away from a node for as long as the block takes.

    Args:
        drains: The way to the backend.
        runner: What is going to replace the node's workers.
        patience_s: After so long (s) the block begins all the same: what still runs is saved and
            handed over.

    Raises:
        KtrdrError: The backend cannot be asked.
    """
    host = runner.plan.site.host
    before = _is_drained(drains.workers(), host)
    if not before:
        drains.drain(host)
    try:
        _let_finish(drains, runner, patience_s)
        yield
    finally:
        if before:
            _warn(runner, f"{host} was drained before, and stays so")
        else:
            _give_work_again(drains, runner)


def _let_finish(drains: Drains, runner: Runner, patience_s: float) -> None:
    host, clock = runner.plan.site.host, runner.clock
    began = clock.monotonic()
    runner.observe(events.StepStarted(_TITLE, host))
    try:
        while busy := _busy(drains.workers(), host):
            if clock.monotonic() - began >= patience_s or runner.stopping.is_set():
                break
            runner.observe(events.Waiting(f"{len(busy)} at work: {', '.join(busy)}"))
            clock.sleep(_LOOK_EVERY_S)
    except KtrdrError:
        runner.observe(events.StepFailed(_TITLE, clock.monotonic() - began))
        raise
    left = f"{len(busy)} still at work hand over" if busy else "none at work"
    runner.observe(events.StepFinished(_TITLE, clock.monotonic() - began, left))


def _is_drained(workers: Sequence[Worker], host: str) -> bool:
    """Whether a node gets no work already, which somebody has wanted so."""
    drained = [worker.drain is not None for worker in workers if worker.node == host]
    return bool(drained) and all(drained)


def _busy(workers: Sequence[Worker], host: str) -> list[str]:
    """The operations that run on a node."""
    return [
        worker.current_operation_id
        for worker in workers
        if worker.node == host and worker.current_operation_id
    ]


def _give_work_again(drains: Drains, runner: Runner) -> None:
    host = runner.plan.site.host
    try:
        drains.undrain(host)
    except KtrdrError as error:
        _warn(runner, f"{host} gets no new work ({error.message})")


def _warn(runner: Runner, message: str) -> None:
    hint = f"`ktrdr workers undrain {runner.plan.site.host}` gives it work again"
    runner.observe(events.Warned(f"{message}; {hint}"))
