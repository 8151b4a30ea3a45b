"""Several hosts at once: all are ready before any is changed, and all come to a good end."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ktrdr.contracts import Worker
from ktrdr.contracts.workers import WorkerStatus, WorkerType
from ktrdr.deployment import credentials, events
from ktrdr.deployment import deploy as module
from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy import Manner, Surroundings
from ktrdr.deployment.history import Outcome
from ktrdr.deployment.hooks import Hook, Hooks
from ktrdr.deployment.inventory import HookSettings, Inventory
from ktrdr.deployment.plan import Plan
from ktrdr.deployment.result import DeployResult, HostResult
from ktrdr.deployment.transport.interface import RemoteResult
from ktrdr.deployment.transport.recording import Answer, RecordingTransport
from ktrdr.errors import (
    Conflict,
    DeploymentFailed,
    HostNotReady,
    HostUnreachable,
    Interrupted,
    KtrdrError,
    Locked,
    NotBegun,
    SecretsError,
    UsageError,
)
from ktrdr.secret import Scrubber, Secret
from tests.unit.deployment.conftest import NOW, TAG, Host
from tests.unit.deployment.test_run import APPLY, CHECK, FETCH, LOCK, RECORD, VERIFY, earlier

FIELDS = {
    "db_username": Secret("ada"),
    "db_password": Secret("a long password"),
    "jwt_secret": Secret("j" * 40),
    "grafana_password": Secret("another password"),
    "ghcr_token": Secret("ghp_0123456789"),
}


class Vault:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: BaseException | None = None

    def fetch(self) -> Mapping[str, Secret]:
        self.asked += 1
        if self.error:
            raise self.error
        return FIELDS


class Hosts(RecordingTransport):
    """A transport on which a test can have scripts wait until they are interrupted."""

    def __init__(self) -> None:
        super().__init__()
        self.rung = threading.Event()
        self.on_script: Callable[[str, str], None] = lambda host, script: None

    def run(self, host: str, script: Secret, **more: Any) -> RemoteResult:
        self.on_script(host, script.reveal())
        return super().run(host, script, **more)

    def interrupt(self) -> None:
        self.rung.set()

    def scripts_on(self, host: str, containing: str) -> list[str]:
        texts = [run.script.reveal() for run in self.runs if run.host == host]
        return [text for text in texts if containing in text]


class Drains:
    """What the backend is asked for, and what of it it knows."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.known: list[Sequence[Worker]] = [[]]
        self.error: KtrdrError | None = None

    def drain(self, node: str) -> None:
        if self.error:
            raise self.error
        self.asked.append(f"drain {node}")

    def undrain(self, node: str) -> None:
        self.asked.append(f"undrain {node}")

    def workers(self) -> Sequence[Worker]:
        return self.known.pop(0) if len(self.known) > 1 else self.known[0]


@dataclass
class Fleet:
    """Three hosts, and what a deploy to them does."""

    plans: list[Plan]
    inventory: Inventory
    clock: Clock
    vault: Vault = field(default_factory=Vault)
    transport: Hosts = field(default_factory=Hosts)
    told: list[tuple[str, Any]] = field(default_factory=list)
    losses: list[Sequence[str]] = field(default_factory=list)
    refuses: KtrdrError | None = None
    checkout: Path = Path("/nonexistent")
    workers: list[Worker] = field(default_factory=list)
    drains: Drains = field(default_factory=Drains)
    hosts: dict[str, Host] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hosts = {plan.site.name: Host(plan) for plan in self.plans}
        self.transport.answer(Answer(stdout="held 1\n", stays=True), containing=LOCK)
        for plan in self.plans:
            host = self.hosts[plan.site.name]
            self.say(plan, CHECK, host.check_output())
            self.say(plan, FETCH, host.fetch_output())
            self.say(plan, VERIFY, host.run_all().verify_output())
            self.workers += [worker(plan, service.worker_url) for service in plan.wanted]

    def plan(self, name: str) -> Plan:
        return next(plan for plan in self.plans if plan.site.name == name)

    def say(self, plan: Plan, containing: str, stdout: str, code: int = 0) -> None:
        answer = Answer(code, stdout=stdout)
        self.transport.answer(answer, host=plan.site.host, containing=containing)

    def fail(self, name: str, containing: str, error: KtrdrError) -> None:
        host = self.plan(name).site.host
        self.transport.answer(Answer(error=error), host=host, containing=containing)

    def deploy(self, **manner: Any) -> DeployResult:
        world = Surroundings(
            source=self.vault,
            transport=lambda scrubber: closing(self.transport),
            directory=lambda secret: lambda: self.workers,
            drains=lambda secret: self.drains,
            observe=lambda name: lambda event: self.told.append((name, event)),
            agree=self._agree,
            hooks=self._hooks,
            clock=self.clock,
        )
        return module.deploy(self.plans, self.inventory, world, Manner(**manner))

    def _hooks(self, scrubber: Scrubber, fields: Mapping[str, Secret]) -> Hooks:
        def tell(hook: Hook, line: str) -> None:
            self.told.append((hook.value, line))

        return Hooks(self.checkout, HookSettings(), os.environ, tell, scrubber, fields)

    def _agree(self, losses: Sequence[str]) -> None:
        self.losses.append(losses)
        if self.refuses:
            raise self.refuses

    def order(self, containing: str) -> list[str]:
        """The hosts that were sent such a script, in that order."""
        names = {plan.site.host: plan.site.name for plan in self.plans}
        runs = self.transport.runs
        return [names[run.host] for run in runs if containing in run.script.reveal()]

    def unlocked(self) -> set[str]:
        return set(self.order("kill -TERM"))


def worker(plan: Plan, url: str | None, operation: str | None = None) -> Worker:
    return Worker(
        worker_id=f"w-{url}",
        worker_type=WorkerType.BACKTESTING,
        endpoint_url=url or "",
        status=WorkerStatus.AVAILABLE,
        current_operation_id=operation,
        capabilities={},
        version=TAG,
        node=plan.site.host,
        registered_at=NOW,
        last_healthy_at=NOW,
        health_check_failures=0,
    )


@pytest.fixture
def fleet(planned, inventory, clock) -> Fleet:
    plans = [planned("core"), planned("workers", node="B"), planned("workers", node="C")]
    return Fleet(plans, inventory, clock)


def by_name(result: DeployResult) -> dict[str, HostResult]:
    return {host.plan.site.name: host for host in result.hosts}


def outcomes(result: DeployResult) -> dict[str, Outcome | None]:
    return {name: host.outcome for name, host in by_name(result).items()}


def test_all_hosts_are_deployed_to_with_the_secrets_read_once(fleet) -> None:
    result = fleet.deploy()
    assert result.is_good
    assert set(outcomes(result).values()) == {Outcome.DEPLOYED}
    assert list(outcomes(result)) == ["core", "workers B", "workers C"]
    assert fleet.vault.asked == 1
    assert ("", events.StepFinished("read the secrets", 0.0, "5 fields")) in fleet.told


def test_all_hosts_are_ready_before_any_is_changed(fleet) -> None:
    fleet.deploy()
    scripts = [run.script.reveal() for run in fleet.transport.runs]
    fetched = [number for number, script in enumerate(scripts) if FETCH in script]
    applied = [number for number, script in enumerate(scripts) if APPLY in script]
    assert len(fetched) == len(applied) == 3
    assert max(fetched) < min(applied)


def test_workers_come_after_the_core_is_healthy(fleet) -> None:
    fleet.deploy()
    core = fleet.plan("core").site.host
    scripts = [(run.host, run.script.reveal()) for run in fleet.transport.runs]
    healthy = next(n for n, (host, text) in enumerate(scripts) if host == core and VERIFY in text)
    workers = [n for n, (host, text) in enumerate(scripts) if host != core and APPLY in text]
    assert healthy < min(workers)


@pytest.mark.parametrize(
    ("containing", "error"),
    [
        (CHECK, HostUnreachable("no way there")),
        (LOCK, Locked("eve is at it")),
        (FETCH, HostNotReady("no room")),
    ],
)
def test_if_one_host_is_not_ready_none_is_begun_and_all_are_unlocked(
    fleet, containing, error
) -> None:
    fleet.fail("workers B", containing, error)
    result = fleet.deploy()
    assert fleet.order(APPLY) == []
    assert outcomes(result) == {"core": None, "workers B": None, "workers C": None}
    assert {"core", "workers C"} <= fleet.unlocked()
    spared = by_name(result)["workers C"]
    assert isinstance(spared.error, NotBegun)
    assert str(spared.error) == "workers C was left as it was, because of workers B"
    assert result.failed[0].error is error, "whoever is to blame comes first"


def test_a_host_that_is_not_ready_is_named_with_all_the_others_that_are_not(fleet) -> None:
    fleet.fail("workers B", CHECK, HostUnreachable("no way there"))
    fleet.fail("workers C", CHECK, HostNotReady("no Docker"))
    result = fleet.deploy()
    assert "because of workers B, workers C" in str(by_name(result)["core"].error)


def test_what_would_be_lost_is_asked_once_for_all_hosts(fleet) -> None:
    for name in ("workers B", "workers C"):
        host = fleet.hosts[name]
        service = replace(host.plan.wanted[0], name="backtest-worker-3")
        host.run(service)
        host.answers["backtest-worker-3"] = {"current_operation_id": "op-1"}
        fleet.say(host.plan, FETCH, host.fetch_output())
    fleet.refuses = UsageError("this deploy needs your word")
    with pytest.raises(UsageError):
        fleet.deploy()
    assert fleet.losses == [
        [
            "workers B: backtest-worker-3 is stopped while it works on op-1",
            "workers C: backtest-worker-3 is stopped while it works on op-1",
        ]
    ]
    assert fleet.order(APPLY) == []
    assert fleet.unlocked() == {"core", "workers B", "workers C"}


def test_a_release_that_the_database_has_left_behind_changes_no_host(fleet) -> None:
    host = fleet.hosts["workers B"]
    newer = earlier(host.plan, id="20261102-000000-0002", contracts=("0003_setbacks",))
    again = earlier(host.plan, tag=TAG, contracts=(), images={})
    host.history = [line for one in (again, newer) for line in (one.begun(), one.ended())]
    fleet.say(host.plan, FETCH, host.fetch_output())
    fleet.say(fleet.plan("core"), "schema_migrations", "0003_setbacks\n")
    with pytest.raises(Conflict, match="cannot work with this database any more"):
        fleet.deploy()
    assert fleet.order(APPLY) == []
    assert fleet.unlocked() == {"core", "workers B", "workers C"}


def test_workers_are_not_begun_when_the_core_did_not_become_healthy(fleet) -> None:
    fleet.fail("core", APPLY, DeploymentFailed("it will not"))
    result = fleet.deploy()
    assert outcomes(result) == {"core": Outcome.FAILED, "workers B": None, "workers C": None}
    assert fleet.order(APPLY) == ["core"]
    assert fleet.unlocked() == {"core", "workers B", "workers C"}
    assert result.failed[0].plan.site.name == "core"


def test_a_worker_node_that_fails_does_not_hold_up_the_others(fleet) -> None:
    fleet.fail("workers B", APPLY, DeploymentFailed("it will not"))
    result = fleet.deploy()
    assert outcomes(result) == {
        "core": Outcome.DEPLOYED,
        "workers B": Outcome.FAILED,
        "workers C": Outcome.DEPLOYED,
    }


def test_one_after_the_other_stops_at_the_first_that_fails(fleet) -> None:
    fleet.fail("workers B", APPLY, DeploymentFailed("it will not"))
    result = fleet.deploy(serial=True)
    assert outcomes(result)["workers C"] is None
    assert fleet.order(APPLY) == ["core", "workers B"]
    assert "workers C" in fleet.unlocked()


def test_no_more_hosts_are_worked_on_at_once_than_was_said(fleet) -> None:
    at_once, most = set[str](), []

    def on_script(host: str, script: str) -> None:
        if LOCK not in script:
            at_once.add(host)
            most.append(len(at_once))
            at_once.discard(host)

    fleet.transport.on_script = on_script
    assert fleet.deploy(parallel=1).is_good
    assert max(most) == 1


def test_a_release_that_fails_on_one_host_gives_way_there_alone(fleet, release) -> None:
    host = fleet.hosts["workers B"]
    good = earlier(host.plan)
    host.history = [good.begun(), good.ended()]
    host.containers.clear()
    fleet.say(host.plan, FETCH, host.fetch_output())
    fleet.transport.answer(
        Answer(1, stderr="no such network"), Answer(), host=host.plan.site.host, containing=APPLY
    )
    result = by_name(fleet.deploy())
    assert result["workers C"].is_good
    restored = result["workers B"].restored
    assert restored is not None
    assert restored.tag == good.tag
    told = [event for name, event in fleet.told if isinstance(event, events.Restoring)]
    assert [event.entry for event in told] == [good]


def test_what_the_vault_refuses_stops_all_before_a_host_is_reached(fleet) -> None:
    fleet.vault.error = SecretsError("not signed in")
    with pytest.raises(SecretsError):
        fleet.deploy()
    assert fleet.transport.runs == []


def test_ctrl_c_while_the_vault_is_asked_touches_no_host(fleet) -> None:
    fleet.vault.error = KeyboardInterrupt()
    with pytest.raises(Interrupted, match="before it touched any host"):
        fleet.deploy()
    assert fleet.transport.runs == []


def test_ctrl_c_after_the_vault_and_before_any_host_is_said_to_have_touched_none(
    fleet, monkeypatch
) -> None:
    def press(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(credentials, "values", press)
    with pytest.raises(Interrupted, match="before it touched any host"):
        fleet.deploy()


# ------------------------------------------------------------------------------------ Ctrl-C


@pytest.fixture
def ctrl_c_at(fleet, monkeypatch) -> Iterator[Callable[[str, str], None]]:
    """Presses Ctrl-C when a host is sent such a script, which then runs until it is ended."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    really, waiting = futures.wait, threading.Event()

    def wait(pending: Any, timeout: float) -> Any:
        waiting.set()
        try:
            return really(pending, timeout)
        finally:
            waiting.clear()

    monkeypatch.setattr(futures, "wait", wait)

    def arrange(name: str, containing: str) -> None:
        host = fleet.plan(name).site.host

        def on_script(where: str, script: str) -> None:
            if where == host and containing in script and not fleet.transport.rung.is_set():
                assert waiting.wait(5)
                os.kill(os.getpid(), signal.SIGINT)
                assert fleet.transport.rung.wait(5), "nobody ended the script"
                raise Interrupted("the script was ended")

        fleet.transport.on_script = on_script

    yield arrange
    signal.signal(signal.SIGINT, before)


def recorded(fleet: Fleet, name: str) -> list[str]:
    scripts = fleet.transport.scripts_on(fleet.plan(name).site.host, RECORD)
    lines = [line for script in scripts for line in script.splitlines() if RECORD in line]
    found = [line.partition("' '")[2].partition("' >>")[0] or line.split("'")[1] for line in lines]
    return [json.loads(text)["outcome"] for text in found]


def test_ctrl_c_while_hosts_are_made_ready_changes_none_of_them(fleet, ctrl_c_at) -> None:
    ctrl_c_at("workers B", FETCH)
    result = fleet.deploy()
    assert fleet.order(APPLY) == []
    assert isinstance(result.failed[0].error, Interrupted)
    assert {host.outcome for host in result.hosts} == {None}


def test_ctrl_c_while_the_core_is_changed_is_recorded_and_spares_the_workers(
    fleet, ctrl_c_at
) -> None:
    ctrl_c_at("core", APPLY)
    result = fleet.deploy()
    assert outcomes(result) == {"core": Outcome.INTERRUPTED, "workers B": None, "workers C": None}
    assert recorded(fleet, "core") == ["interrupted"]
    assert fleet.unlocked() == {"core", "workers B", "workers C"}
    undone = fleet.transport.scripts_on(fleet.plan("core").site.host, "recover 85")
    assert len(undone) == 1, "what Compose was at is brought to an end"


def test_ctrl_c_while_workers_are_changed_lets_all_of_them_end_in_good_order(
    fleet, ctrl_c_at
) -> None:
    ctrl_c_at("workers B", APPLY)
    result = fleet.deploy()
    assert outcomes(result)["core"] is Outcome.DEPLOYED
    assert outcomes(result)["workers B"] is Outcome.INTERRUPTED
    assert outcomes(result)["workers C"] in (Outcome.INTERRUPTED, Outcome.DEPLOYED)
    assert recorded(fleet, "workers B") == ["interrupted"]


def test_an_interrupted_release_is_not_gone_back_from(fleet, ctrl_c_at) -> None:
    host = fleet.hosts["core"]
    good = earlier(host.plan)
    host.history = [good.begun(), good.ended()]
    fleet.say(host.plan, FETCH, Host(host.plan, history=host.history).fetch_output())
    ctrl_c_at("core", APPLY)
    assert by_name(fleet.deploy())["core"].restored is None


def test_a_second_ctrl_c_ends_all_connections_at_once(fleet, ctrl_c_at, monkeypatch) -> None:
    ctrl_c_at("core", APPLY)
    really, presses = futures.wait, list[str]()

    def wait(pending: Any, timeout: float) -> Any:
        if fleet.transport.rung.is_set() and not presses:
            presses.append("second")
            raise KeyboardInterrupt
        return really(pending, timeout)

    monkeypatch.setattr(futures, "wait", wait)
    result = fleet.deploy()
    assert presses
    assert not result.is_good
    assert by_name(result)["core"].outcome is Outcome.INTERRUPTED


def test_ctrl_c_at_the_question_unlocks_all_hosts(fleet) -> None:
    fleet.refuses = Interrupted("the deploy was called off, nothing was changed")
    with pytest.raises(Interrupted):
        fleet.deploy()
    assert fleet.unlocked() == {"core", "workers B", "workers C"}


def test_ctrl_c_when_nobody_waits_for_hosts_is_an_interruption_too(fleet, monkeypatch) -> None:
    def press(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.Rollout, "_waves", press)
    with pytest.raises(Interrupted, match="was interrupted"):
        fleet.deploy()
    assert fleet.transport.rung.is_set()
    assert fleet.unlocked() == {"core", "workers B", "workers C"}


def test_ctrl_c_ends_the_wait_for_somebody_elses_lock(fleet, ctrl_c_at) -> None:
    """The script that waits for it stays, since nothing but the end of all ends it."""
    waiting = Answer(stays=True)
    fleet.transport.answer(waiting, host=fleet.plan("core").site.host, containing=LOCK)
    ctrl_c_at("workers B", FETCH)
    result = fleet.deploy(lock_wait_s=3600)
    assert isinstance(by_name(result)["core"].error, Interrupted)
    assert "no longer waited for" in str(by_name(result)["core"].error)


# ---------------------------------------------------------------------------------- draining


def test_only_nodes_with_something_to_change_are_drained(fleet) -> None:
    host = fleet.hosts["workers B"]
    fleet.say(host.plan, FETCH, host.fetch_output())
    fleet.deploy(drain_s=60)
    node = fleet.plan("workers C").site.host
    assert fleet.drains.asked == [f"drain {node}", f"undrain {node}"]


def test_a_node_that_cannot_be_drained_is_not_changed(fleet) -> None:
    fleet.drains.error = HostUnreachable("the backend does not answer")
    result = fleet.deploy(drain_s=60)
    assert outcomes(result) == {"core": Outcome.DEPLOYED, "workers B": None, "workers C": None}
    assert fleet.order(APPLY) == ["core"]
    assert result.failed[0].error is fleet.drains.error


# ------------------------------------------------------------------------------------- hooks


@pytest.fixture
def hook(fleet, tmp_path) -> Callable[[str, str], Path]:
    """Puts an executable into the checkout; it may write what it knows beside itself."""
    fleet.checkout = tmp_path
    (tmp_path / ".ktrdr/hooks").mkdir(parents=True)

    def put(name: str, body: str) -> Path:
        checkout: Path = tmp_path
        file = checkout / ".ktrdr/hooks" / name
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)
        return checkout / "told"

    return put


def test_a_hook_that_says_no_keeps_every_host_as_it_is(fleet, hook) -> None:
    hook("pre-deploy", "echo not on a Friday; exit 3")
    with pytest.raises(Conflict, match="exit code 3: not on a Friday"):
        fleet.deploy()
    assert not fleet.transport.runs


def test_hooks_are_told_what_came_of_it(fleet, hook) -> None:
    told = hook("notify", 'echo "$KTRDR_OUTCOME $KTRDR_TARGETS" >told')
    hook("post-deploy", "exit 9")
    fleet.deploy()
    assert told.read_text() == "deployed core, workers B, workers C\n"
    (warned,) = [event for name, event in fleet.told if isinstance(event, events.Warned)]
    assert "post-deploy ended with exit code 9" in warned.message


def test_a_deploy_that_was_called_off_tells_its_hooks_so(fleet, hook) -> None:
    told = hook("on-failure", 'echo "$KTRDR_OUTCOME: $KTRDR_REASON" >told')
    fleet.refuses = Interrupted("called off")
    with pytest.raises(Interrupted):
        fleet.deploy()
    assert told.read_text() == "interrupted: called off\n"
