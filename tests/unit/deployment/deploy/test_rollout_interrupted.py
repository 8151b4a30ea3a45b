"""Ctrl-C, at whatever moment it comes, ends all hosts in good order."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import pytest

from ktrdr.deployment.deploy import rollout as module
from ktrdr.deployment.hosts.history import Outcome
from ktrdr.deployment.hosts.lock import BUSY
from ktrdr.errors import (
    Interrupted,
)
from tests.recording_transport import Answer
from tests.unit.deployment.conftest import Host
from tests.unit.deployment.fleet import (
    Fleet,
    by_name,
    outcomes,
)
from tests.unit.deployment.watched import APPLY, FETCH, LOCK, RECORD, earlier


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
    error = by_name(result)["workers B"].error
    assert isinstance(error, Interrupted)
    assert str(error) == "the deploy of workers B was interrupted"
    assert {host.outcome for host in result.hosts} == {None}


def test_ctrl_c_while_the_core_is_changed_is_recorded_and_spares_the_workers(
    fleet, ctrl_c_at
) -> None:
    ctrl_c_at("core", APPLY)
    result = fleet.deploy()
    assert outcomes(result) == {"core": Outcome.INTERRUPTED, "workers B": None, "workers C": None}
    assert recorded(fleet, "core") == ["interrupted"]
    assert fleet.unlocked() == {"core", "workers B", "workers C"}
    undone = fleet.transport.scripts_on(fleet.plan("core").site.host, "ktrdr-core 85\n")
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
    held = Answer(BUSY, stdout="7 {}")
    fleet.transport.answer(held, host=fleet.plan("core").site.host, containing=LOCK)
    ctrl_c_at("workers B", FETCH)
    result = fleet.deploy(lock_wait_s=3600)
    # Where Ctrl-C came just before it waited, that is what was interrupted.
    assert str(by_name(result)["core"].error) in (
        "the lock of core was no longer waited for",
        "the deploy of core was interrupted",
    )
