"""Ctrl-C during a deploy: at any moment, all hosts end in good order."""

from __future__ import annotations

import base64
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import pytest

from ktrdr.deployment.deploy import rollout
from ktrdr.deployment.hosts.history import DeployOutcome
from ktrdr.deployment.hosts.lock import LOCK_BUSY
from ktrdr.deployment.releases.release import pack_archive
from ktrdr.errors import Interrupted
from tests.recording_transport import Answer
from tests.unit.deployment.conftest import SimulatedHost
from tests.unit.deployment.fleet import Fleet, outcomes, results_by_name
from tests.unit.deployment.harness import (
    APPLY,
    FETCH,
    GO_BACK,
    LOCK,
    RECORD,
    VERIFY,
    earlier_entry,
    recorded_event,
    rollback_answer,
)
from tests.unit.deployment.histories import history_lines


@pytest.fixture
def ctrl_c_at(fleet, monkeypatch) -> Iterator[Callable[..., None]]:
    """Press Ctrl-C when a host receives such a script, which then runs until it is ended.

    It lets the given number of such scripts pass.
    """
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    real_wait, waiting = futures.wait, threading.Event()

    def wait(pending: Any, timeout: float) -> Any:
        waiting.set()
        try:
            return real_wait(pending, timeout)
        finally:
            waiting.clear()

    monkeypatch.setattr(futures, "wait", wait)

    def arrange(name: str, containing: str, passing: int = 0) -> None:
        host, passed = fleet.plan(name).host.address, []

        def on_script(receiver: str, script: str) -> None:
            interrupted = fleet.transport.interrupted
            if receiver == host and containing in script and not interrupted.is_set():
                passed.append(script)
                if len(passed) <= passing:
                    return
                assert waiting.wait(5)
                os.kill(os.getpid(), signal.SIGINT)
                assert interrupted.wait(5), "the rollout did not end the script"
                raise Interrupted("the script was ended")

        fleet.transport.on_script = on_script

    yield arrange
    signal.signal(signal.SIGINT, handler)


def recorded_outcomes(fleet: Fleet, name: str) -> list[str]:
    scripts = fleet.transport.scripts_on(fleet.plan(name).host.address, RECORD)
    return [recorded_event(script)["outcome"] for script in scripts]


def test_ctrl_c_while_hosts_are_prepared_changes_no_host(fleet, ctrl_c_at) -> None:
    ctrl_c_at("workers B", FETCH)
    result = fleet.deploy()
    assert fleet.receivers_of(APPLY) == []
    error = results_by_name(result)["workers B"].error
    assert isinstance(error, Interrupted)
    assert str(error) == "the deploy of workers B was interrupted"
    assert {host.outcome for host in result.hosts} == {None}


def test_ctrl_c_while_the_core_changes_is_recorded_and_leaves_the_workers_unchanged(
    fleet, ctrl_c_at
) -> None:
    ctrl_c_at("core", APPLY)
    result = fleet.deploy()
    assert outcomes(result) == {
        "core": DeployOutcome.INTERRUPTED,
        "workers B": None,
        "workers C": None,
    }
    assert recorded_outcomes(fleet, "core") == ["interrupted"]
    assert fleet.unlocked_hosts() == {"core", "workers B", "workers C"}
    assert fleet.receivers_of(GO_BACK) == ["core"]


def test_ctrl_c_while_workers_change_ends_all_of_them_in_good_order(fleet, ctrl_c_at) -> None:
    ctrl_c_at("workers B", APPLY)
    result = fleet.deploy()
    assert outcomes(result)["core"] is DeployOutcome.DEPLOYED
    assert outcomes(result)["workers B"] is DeployOutcome.INTERRUPTED
    assert outcomes(result)["workers C"] in (DeployOutcome.INTERRUPTED, DeployOutcome.DEPLOYED)
    assert recorded_outcomes(fleet, "workers B") == ["interrupted"]


def test_an_interrupted_release_is_rolled_back(fleet, release, ctrl_c_at) -> None:
    host = fleet.hosts["core"]
    kept = base64.b64encode(pack_archive(release.files)).decode()
    fleet.respond(host.plan, "|| base64", kept)
    address = host.plan.host.address
    went_back = rollback_answer(host.plan, DeployOutcome.DEPLOYED)
    fleet.transport.answer(went_back, host=address, containing=GO_BACK)
    empty = SimulatedHost(host.plan, history=history_lines(earlier_entry(host.plan)))
    fleet.respond(host.plan, FETCH, empty.fetch_output())
    ctrl_c_at("core", APPLY)
    restored = results_by_name(fleet.deploy())["core"].restored
    assert restored is not None
    assert restored.outcome is DeployOutcome.DEPLOYED


def test_a_second_ctrl_c_closes_all_connections_immediately(fleet, ctrl_c_at, monkeypatch) -> None:
    ctrl_c_at("core", APPLY)
    real_wait, presses = futures.wait, list[str]()

    def wait(pending: Any, timeout: float) -> Any:
        if fleet.transport.interrupted.is_set() and not presses:
            presses.append("second")
            raise KeyboardInterrupt
        return real_wait(pending, timeout)

    monkeypatch.setattr(futures, "wait", wait)
    result = fleet.deploy()
    assert presses
    assert not result.is_good
    assert results_by_name(result)["core"].outcome is DeployOutcome.INTERRUPTED


def test_ctrl_c_at_the_confirmation_unlocks_all_hosts(fleet) -> None:
    fleet.refusal = Interrupted("the command was cancelled, nothing was changed")
    with pytest.raises(Interrupted):
        fleet.deploy()
    assert fleet.unlocked_hosts() == {"core", "workers B", "workers C"}


def test_ctrl_c_while_the_rollout_does_not_wait_is_an_interruption_too(fleet, monkeypatch) -> None:
    def press(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(rollout.Rollout, "_split", press)
    with pytest.raises(Interrupted, match="was interrupted"):
        fleet.deploy()
    assert fleet.transport.interrupted.is_set()
    assert fleet.unlocked_hosts() == {"core", "workers B", "workers C"}


def test_ctrl_c_ends_the_wait_for_the_lock_of_another_owner(fleet, ctrl_c_at) -> None:
    held = Answer(LOCK_BUSY, stdout="7 {}")
    fleet.transport.answer(held, host=fleet.plan("core").host.address, containing=LOCK)
    ctrl_c_at("workers B", FETCH)
    result = fleet.deploy(lock_wait=3600)
    # If Ctrl-C arrived just before the wait, the deploy was interrupted instead.
    assert str(results_by_name(result)["core"].error) in (
        "the wait for the lock of core was interrupted",
        "the deploy of core was interrupted",
    )


def test_ctrl_c_while_a_batch_is_watched_keeps_it_and_starts_no_other(fleet, ctrl_c_at) -> None:
    ctrl_c_at("workers B", VERIFY, 1)
    result = fleet.deploy(canary=1)
    assert fleet.receivers_of(APPLY) == ["core", "workers B"]
    assert outcomes(result) == {
        "core": DeployOutcome.DEPLOYED,
        "workers B": DeployOutcome.DEPLOYED,
        "workers C": None,
    }
    error = results_by_name(result)["workers C"].error
    assert isinstance(error, Interrupted)
    assert str(error) == "workers C was not changed, because the deploy was interrupted"
    assert fleet.unlocked_hosts() == {"core", "workers B", "workers C"}
