"""Work on several hosts in parallel."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from ktrdr.deployment.hosts.actions import HistoryAction, recorded
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.lock import HostLock, LockOwner, hold_lock
from ktrdr.deployment.ssh.interface import Transport
from ktrdr.errors import Interrupted, KtrdrError

# Each host costs the operator's machine a connection and its processes.
MAX_PARALLEL: Final = 16
# The main thread handles signals, but may sleep when one arrives. So it wakes up at this interval.
SIGNAL_INTERVAL_S: Final = 0.2
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class HostOutcome(Generic[_Result]):
    """Result of the work on one host, or the error that prevented it."""

    host: Host
    result: _Result | None = None
    error: KtrdrError | None = None


@dataclass(frozen=True, slots=True)
class HostRunContext:
    """Settings that the work on all hosts of a command shares.

    Attributes:
        transport: Connections to the hosts.
        owner: Owner that their locks name.
        lock_wait_s: Maximum wait for another owner of a lock (s).
        stopping: Set on Ctrl-C, so that the work stops at the next opportunity.
        subject: What it changes, as the history names it; empty for the whole host.
    """

    transport: Transport
    owner: LockOwner
    lock_wait_s: float
    stopping: threading.Event
    subject: str = ""


def map_hosts(
    function: Callable[[Host], _Result], hosts: Sequence[Host], transport: Transport
) -> list[_Result]:
    """Call a function for each host in parallel; return the results in the hosts' order.

    Args:
        function: Called in a thread for each host; uses the transport.
        hosts: The hosts.
        transport: Closed when the wait is interrupted, which ends the running scripts.
    """
    with ThreadPoolExecutor(max_workers=MAX_PARALLEL) as pool:
        try:
            calls = [pool.submit(function, host) for host in hosts]
            _wait(calls)
            return [call.result() for call in calls]
        except BaseException:
            transport.close()
            raise


def for_each_host(
    hosts: Sequence[Host], function: Callable[[Host], _Result], task: HostRunContext
) -> list[HostOutcome[_Result]]:
    """Call a function for each host in parallel, without locks, even if some hosts fail.

    Raises:
        Interrupted: Ctrl-C. Running scripts were ended and locks released.
    """

    def attempt(host: Host) -> HostOutcome[_Result]:
        try:
            return HostOutcome(host, function(host))
        except KtrdrError as error:
            return HostOutcome(host, error=error)

    with ThreadPoolExecutor(max_workers=MAX_PARALLEL) as pool:
        try:
            calls = [pool.submit(attempt, host) for host in hosts]
            _wait(calls)
        except KeyboardInterrupt as exc:
            task.stopping.set()
            task.transport.interrupt()
            raise Interrupted(
                f"{task.owner.reason} was interrupted",
                hint="The running scripts were terminated; run the command again to finish.",
            ) from exc
    return [call.result() for call in calls]


def for_each_locked_host(
    hosts: Sequence[Host], function: Callable[[Host, HostLock], _Result], task: HostRunContext
) -> list[HostOutcome[_Result]]:
    """Call a function for each host in parallel, each under its lock; see `for_each_host`.

    The histories of the hosts record it.
    """
    action = HistoryAction(task.owner.deploy, task.owner.reason, task.subject)

    def call_locked(host: Host) -> _Result:
        with (
            hold_lock(task.transport, host, task.owner, wait_s=task.lock_wait_s) as lock,
            recorded(task.transport, host, action),
        ):
            return function(host, lock)

    return for_each_host(hosts, call_locked, task)


def _wait(calls: Iterable[Future[Any]]) -> None:
    """Wait until all calls have returned, or raise the first exception of one; notice Ctrl-C."""
    pending = set(calls)
    while pending:
        done, pending = futures.wait(pending, SIGNAL_INTERVAL_S, futures.FIRST_EXCEPTION)
        for call in done:
            call.result()
