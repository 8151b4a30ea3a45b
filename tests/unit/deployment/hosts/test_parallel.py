"""Work on several hosts in parallel, with and without their locks."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import pytest

from ktrdr.deployment.hosts.host import DeployId, Host
from ktrdr.deployment.hosts.lock import LOCK_BUSY, HostLock, LockOwner
from ktrdr.deployment.hosts.parallel import (
    HostOutcome,
    HostRunContext,
    for_each_host,
    for_each_locked_host,
    map_hosts,
)
from ktrdr.errors import HostUnreachable, Interrupted, Locked
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.conftest import NOW
from tests.unit.deployment.fleet import InterruptibleTransport
from tests.unit.deployment.harness import RELEASE

CORE, B, C = (
    Host(name, f"{name}.lab.test", f"/opt/{name}", "stack", "project", "/run/x/project")
    for name in ("core", "b", "c")
)
HOSTS = [CORE, B, C]
OWNER = LockOwner(DeployId("id", "ada@laptop", NOW), "restart")
UNREACHABLE = HostUnreachable("it cannot be reached")


@pytest.fixture
def transport() -> RecordingTransport:
    return RecordingTransport()


@pytest.fixture
def task(transport: RecordingTransport) -> HostRunContext:
    return HostRunContext(transport, OWNER, lock_wait_s=0.0, stopping=threading.Event())


def fail_on_b(host: Host) -> str:
    if host is B:
        raise UNREACHABLE
    return host.name.upper()


def test_results_are_in_the_order_of_the_hosts(transport: RecordingTransport) -> None:
    last_has_ended = threading.Event()

    def name_of(host: Host) -> str:
        if host is C:
            last_has_ended.set()
        else:
            assert last_has_ended.wait(10), "the hosts do not run in parallel"
        return host.name

    assert map_hosts(name_of, HOSTS, transport) == ["core", "b", "c"]
    assert map_hosts(name_of, [], transport) == []


def test_an_error_ends_the_scripts_on_all_hosts(transport: RecordingTransport) -> None:
    with pytest.raises(HostUnreachable):
        map_hosts(fail_on_b, HOSTS, transport)
    assert transport.closed


def test_an_error_on_one_host_does_not_hide_the_results_of_others(task: HostRunContext) -> None:
    assert for_each_host(HOSTS, fail_on_b, task) == [
        HostOutcome(CORE, "CORE"),
        HostOutcome(B, error=UNREACHABLE),
        HostOutcome(C, "C"),
    ]


def test_other_exceptions_than_our_errors_are_raised(task: HostRunContext) -> None:
    def divide(host: Host) -> float:
        return 1 / 0

    with pytest.raises(ZeroDivisionError):
        for_each_host(HOSTS, divide, task)


def test_work_without_a_lock_sends_nothing_to_hosts(
    task: HostRunContext, transport: RecordingTransport
) -> None:
    for_each_host(HOSTS, lambda host: host.name, task)
    assert transport.runs == []


def test_each_host_is_locked_during_its_work_and_unlocked_afterwards(
    task: HostRunContext, transport: RecordingTransport
) -> None:
    def ensure_held(host: Host, lock: HostLock) -> str:
        lock.ensure_held()
        assert lock.owner == OWNER
        if host is B:
            raise UNREACHABLE
        return host.name

    outcomes = for_each_locked_host(HOSTS, ensure_held, task)
    assert [outcome.result for outcome in outcomes] == ["core", None, "c"]
    for host in HOSTS:
        scripts = [run.script.reveal() for run in transport.runs if run.host == host.address]
        lock, begun, ended, release = scripts
        assert OWNER.to_json() in lock
        assert '"kind":"restart"' in begun
        assert f'"outcome":"{"failed" if host is B else "done"}"' in ended
        assert RELEASE in release


def test_a_host_that_another_owner_has_locked_is_left_alone(
    task: HostRunContext, transport: RecordingTransport
) -> None:
    other = LockOwner(DeployId("other", "eve@pc", NOW), "deploy of b")
    locked = Answer(LOCK_BUSY, stdout=f"7 {other.to_json()}")
    transport.answer(locked, host=B.address)
    outcomes = for_each_locked_host(HOSTS, lambda host, _: host.name, task)
    assert [outcome.result for outcome in outcomes] == ["core", None, "c"]
    error = outcomes[1].error
    assert isinstance(error, Locked)
    assert error.message == (
        "b on b.lab.test is locked by eve@pc, since 2026-11-23 12:00:00 UTC: deploy of b"
    )


@pytest.fixture
def press_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Return a function that presses Ctrl-C as soon as the main thread waits for the hosts."""
    real_wait, waiting = futures.wait, threading.Event()

    def wait(*arguments: Any) -> Any:
        waiting.set()
        return real_wait(*arguments)

    def press() -> None:
        assert waiting.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(futures, "wait", wait)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield press
    signal.signal(signal.SIGINT, handler)


def test_ctrl_c_during_a_query_closes_the_connections(
    press_ctrl_c: Callable[[], None],
) -> None:
    transport = InterruptibleTransport()

    def query(host: Host) -> None:
        if host is CORE:
            press_ctrl_c()
        assert transport.interrupted.wait(10)

    with pytest.raises(KeyboardInterrupt):
        map_hosts(query, HOSTS, transport)
    assert transport.closed


def test_ctrl_c_ends_running_scripts_and_asks_the_work_to_stop(
    press_ctrl_c: Callable[[], None],
) -> None:
    transport = InterruptibleTransport()
    task = HostRunContext(transport, OWNER, lock_wait_s=0.0, stopping=threading.Event())
    finished = []

    def work(host: Host, lock: HostLock) -> None:
        if host is CORE:
            press_ctrl_c()
        assert transport.interrupted.wait(10)
        assert task.stopping.is_set()
        finished.append(host)

    with pytest.raises(Interrupted, match="restart was interrupted"):
        for_each_locked_host(HOSTS, work, task)
    assert sorted(finished, key=HOSTS.index) == HOSTS
    assert sum(RELEASE in run.script.reveal() for run in transport.runs) == len(HOSTS)
