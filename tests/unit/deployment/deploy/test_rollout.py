"""Several hosts at once: all are ready before any is changed, and all come to a good end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ktrdr.deployment.deploy import events
from ktrdr.deployment.homelab import credentials
from ktrdr.deployment.hosts.history import Outcome
from ktrdr.errors import (
    Conflict,
    DeploymentFailed,
    HostNotReady,
    HostUnreachable,
    Interrupted,
    Locked,
    NotStarted,
    SecretsError,
    UsageError,
)
from tests.recording_transport import Answer
from tests.unit.deployment.conftest import TAG
from tests.unit.deployment.fleet import (
    by_name,
    outcomes,
)
from tests.unit.deployment.watched import APPLY, CHECK, FETCH, LOCK, VERIFY, earlier


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


def test_where_nothing_is_to_be_changed_no_host_waits_for_another(fleet) -> None:
    for host in fleet.hosts.values():
        host.run_all()
    core = fleet.hosts["core"]
    core.containers["backend"]["state"]["Health"]["Status"] = "unhealthy"
    for host in fleet.hosts.values():
        fleet.say(host.plan, FETCH, host.fetch_output())
    assert outcomes(fleet.deploy()) == {
        "core": Outcome.FAILED,
        "workers B": Outcome.UNCHANGED,
        "workers C": Outcome.UNCHANGED,
    }
    assert fleet.order(APPLY) == []


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
    assert isinstance(spared.error, NotStarted)
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
