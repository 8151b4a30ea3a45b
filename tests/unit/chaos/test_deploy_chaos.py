"""The schedule of `make chaos-deploy`, and what it accepts after a fault."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from lab import nodes
from lab.config import CORE, Node
from tests.chaos.deploy import settling
from tests.chaos.deploy.cases import Case, first_case_of_each_fault, schedule
from tests.chaos.deploy.faults import FAULTS
from tests.chaos.deploy.hosts import Host, Process, VersionMonitor, stopped_services
from tests.chaos.deploy.settling import HostSettling

SERVICES = ("backtest-worker-1", "training-worker-1")
RUNNING, EXITED, CREATED = ("running", "healthy"), ("exited", ""), ("created", "")
STARTING, RESTARTING = ("running", "starting"), ("restarting", "")


def cases(number: int = 200) -> list[Case]:
    return list(itertools.islice(schedule(41), number))


def containers(*states: tuple[str, str]) -> list[dict[str, str]]:
    """Return a container of each service, in these states; further ones are of the last service."""
    names = itertools.chain(SERVICES, itertools.repeat(SERVICES[-1]))
    return [
        {"name": f"/{service}", "service": service, "status": status, "health": health}
        for service, (status, health) in zip(names, states, strict=False)
    ]


def test_two_hundred_cases_contain_every_fault_in_each_of_its_steps() -> None:
    wanted = {(name, step) for name, fault in FAULTS.items() for step in fault.steps}
    assert {(case.fault, case.step) for case in cases()} == wanted


def test_a_seed_repeats_its_schedule() -> None:
    assert cases() == cases()
    assert cases() != list(itertools.islice(schedule(42), 200))


def test_faults_hit_only_the_hosts_that_they_are_meant_for() -> None:
    for case in cases(1000):
        fault = FAULTS[case.fault]
        assert not fault.workers_only or case.target in ("B", "C"), case
        assert not fault.one_host or case.target != "all", case


def test_the_short_run_contains_every_fault_once_on_a_worker_node() -> None:
    short = first_case_of_each_fault(7)
    assert sorted(case.fault for case in short) == sorted(FAULTS)
    assert {case.target for case in short} == {"B", "C"}


@pytest.mark.parametrize(
    ("states", "stopped"),
    [
        ((EXITED, CREATED), list(SERVICES)),
        ((RUNNING, EXITED), ["training-worker-1"]),
        # One service has no container yet.
        ((EXITED,), list(SERVICES)),
        ((RUNNING, EXITED, CREATED), ["training-worker-1"]),
        ((RUNNING, RUNNING), []),
        # The new container runs beside the one that it replaces.
        ((RUNNING, CREATED, RUNNING), []),
        ((STARTING, EXITED), []),
        ((RUNNING, RESTARTING), []),
        ((RUNNING, ("running", "unhealthy")), []),
    ],
)
def test_a_service_is_stopped_if_docker_will_not_start_it_and_no_other_one_is_unhealthy(
    states: tuple[tuple[str, str], ...], stopped: list[str]
) -> None:
    assert stopped_services(containers(*states), SERVICES) == stopped


@dataclass
class FakeHost:
    """A host in a fixed state."""

    states: tuple[tuple[str, str], ...]
    without_share: list[str] = field(default_factory=list)
    deploy: list[Process] = field(default_factory=list)
    name: str = "workers B"
    services: tuple[str, ...] = SERVICES

    def containers(self) -> list[dict[str, str]]:
        return containers(*self.states)

    def services_without_share(self) -> list[str]:
        return self.without_share

    def deploy_processes(self) -> list[Process]:
        return self.deploy

    def docker_answers(self) -> bool:
        return True

    def lock_is_free(self) -> bool:
        return True


@dataclass
class FakeMonitor:
    """The versions of a host's services: those that run answer."""

    host: Host

    @property
    def versions(self) -> dict[str, str | None]:
        return {
            each["service"]: "light-1" if each["status"] == "running" else None
            for each in self.host.containers()
        }


def settle(host: FakeHost, *, may_stay_stopped: bool) -> HostSettling:
    monitor = FakeMonitor(cast("Host", host))
    waiting = HostSettling(cast("VersionMonitor", monitor), may_stay_stopped=may_stay_stopped)
    waiting.wait()
    return waiting


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "SERVES_WITHIN_S", 0.0)
    monkeypatch.setattr(settling, "STOPPED_FOR_S", 0.0)


@pytest.mark.usefixtures("short_waits")
def test_services_may_stay_stopped_only_where_the_fault_allows_it() -> None:
    host = FakeHost((RUNNING, EXITED))
    assert settle(host, may_stay_stopped=True).is_stopped
    refused = settle(host, may_stay_stopped=False)
    assert not refused.is_stopped
    assert "workers B: neither release serves" in refused.problems[0]


@pytest.mark.usefixtures("short_waits")
def test_a_host_that_serves_is_not_stopped() -> None:
    settled = settle(FakeHost((RUNNING, RUNNING)), may_stay_stopped=True)
    assert (settled.is_stopped, settled.problems) == (False, [])


@pytest.mark.usefixtures("short_waits")
def test_a_service_that_does_not_see_the_shared_directory_does_not_serve() -> None:
    host = FakeHost((RUNNING, RUNNING), without_share=["backtest-worker-1"])
    (problem,) = settle(host, may_stay_stopped=True).problems
    assert "without the share: ['backtest-worker-1']" in problem


@pytest.mark.usefixtures("short_waits")
def test_stopped_services_are_waited_for_while_something_may_still_start_them() -> None:
    watchdog = Process(pid=7, parent=1, words=("sh", "-c", "watchdog"))
    settled = settle(FakeHost((RUNNING, EXITED), deploy=[watchdog]), may_stay_stopped=True)
    assert not settled.is_stopped
    assert "still running: sh -c watchdog" in settled.problems[-1]


@pytest.mark.parametrize("state", ["STOPPED", "RUNNING"])
def test_a_host_has_another_root_after_its_boot(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Node] = []
    roots = iter((Path("/proc/11/root"), Path("/proc/12/root")))
    monkeypatch.setattr(nodes, "root_of", lambda _node: next(roots))
    monkeypatch.setattr(nodes, "state", lambda _node: state)
    monkeypatch.setattr(nodes, "start", started.append)
    monkeypatch.setattr(nodes, "is_healthy", lambda _node: True)
    host = Host(CORE)
    assert (host.root, host.root) == (Path("/proc/11/root"), Path("/proc/11/root"))
    host.boot()
    assert host.root == Path("/proc/12/root")
    assert started == [CORE] * (state == "STOPPED")
