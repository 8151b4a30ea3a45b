"""A deploy to several hosts: all are prepared before any changes, and the core comes first."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ktrdr.deployment.deploy import events, rollout
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.hosts.history import DeployKind, DeployOutcome
from ktrdr.deployment.releases.release import pack_archive
from ktrdr.errors import (
    Conflict,
    DeploymentFailed,
    HostNotReady,
    HostSkipped,
    HostUnreachable,
    Interrupted,
    Locked,
    NotStarted,
    SecretsError,
    UsageError,
)
from tests.recording_transport import Answer
from tests.unit.deployment.conftest import DEPLOY_ID, TAG
from tests.unit.deployment.fleet import outcomes, results_by_name
from tests.unit.deployment.harness import (
    APPLY,
    CHECK,
    FETCH,
    GO_BACK,
    LOCK,
    RECORD,
    VERIFY,
    earlier_entry,
    rollback_answer,
)
from tests.unit.deployment.histories import history_lines


def test_all_hosts_are_deployed_and_the_secrets_are_read_once(fleet) -> None:
    result = fleet.deploy()
    assert result.is_good
    assert set(outcomes(result).values()) == {DeployOutcome.DEPLOYED}
    assert list(outcomes(result)) == ["core", "workers B", "workers C"]
    assert fleet.vault.fetches == 1
    assert ("", events.StepFinished("read the secrets", 0.0, "5 fields")) in fleet.events


def test_all_hosts_are_prepared_before_any_is_changed(fleet) -> None:
    fleet.deploy()
    scripts = [run.script.reveal() for run in fleet.transport.runs]
    fetched = [number for number, script in enumerate(scripts) if FETCH in script]
    applied = [number for number, script in enumerate(scripts) if APPLY in script]
    assert len(fetched) == len(applied) == 3
    assert max(fetched) < min(applied)


def test_workers_come_after_the_core_is_healthy(fleet) -> None:
    fleet.deploy()
    core = fleet.plan("core").host.address
    scripts = [(run.host, run.script.reveal()) for run in fleet.transport.runs]
    verified = next(n for n, (host, text) in enumerate(scripts) if host == core and VERIFY in text)
    applied = [n for n, (host, text) in enumerate(scripts) if host != core and APPLY in text]
    assert verified < min(applied)


def test_hosts_do_not_wait_for_the_core_if_nothing_changes(fleet) -> None:
    for host in fleet.hosts.values():
        host.run_all()
    core = fleet.hosts["core"]
    core.containers["backend"]["state"]["Health"]["Status"] = "unhealthy"
    for host in fleet.hosts.values():
        fleet.respond(host.plan, FETCH, host.fetch_output())
    assert outcomes(fleet.deploy()) == {
        "core": DeployOutcome.FAILED,
        "workers B": DeployOutcome.UNCHANGED,
        "workers C": DeployOutcome.UNCHANGED,
    }
    assert fleet.receivers_of(APPLY) == []


@pytest.mark.parametrize(
    ("containing", "error"),
    [
        (CHECK, HostUnreachable("it cannot be reached")),
        (LOCK, Locked("eve holds it")),
        (FETCH, HostNotReady("its disk is full")),
    ],
)
def test_if_one_host_is_not_ready_no_host_changes_and_all_are_unlocked(
    fleet, containing, error
) -> None:
    fleet.fail("workers B", containing, error)
    result = fleet.deploy()
    assert fleet.receivers_of(APPLY) == []
    assert outcomes(result) == {"core": None, "workers B": None, "workers C": None}
    assert {"core", "workers C"} <= fleet.unlocked_hosts()
    other = results_by_name(result)["workers C"]
    assert isinstance(other.error, NotStarted)
    assert str(other.error) == "workers C was not changed, because of a failure on workers B"
    assert result.failed[0].error is error, "the host that failed comes first"


def test_the_error_of_an_unchanged_host_names_all_hosts_that_are_not_ready(fleet) -> None:
    fleet.fail("workers B", CHECK, HostUnreachable("it cannot be reached"))
    fleet.fail("workers C", CHECK, HostNotReady("Docker is missing"))
    result = fleet.deploy()
    assert "because of a failure on workers B, workers C" in str(
        results_by_name(result)["core"].error
    )


def test_the_operator_confirms_the_effects_on_all_hosts_once(fleet) -> None:
    for name in ("workers B", "workers C"):
        host = fleet.hosts[name]
        service = replace(host.plan.expected[0], name="backtest-worker-3")
        host.run(service)
        host.answers["backtest-worker-3"] = {"current_operation_id": "op-1"}
        fleet.respond(host.plan, FETCH, host.fetch_output())
    fleet.refusal = UsageError("confirmation required")
    with pytest.raises(UsageError):
        fleet.deploy()
    assert fleet.confirmations == [
        [
            "workers B: backtest-worker-3 will be stopped while it is running op-1",
            "workers C: backtest-worker-3 will be stopped while it is running op-1",
        ]
    ]
    assert fleet.receivers_of(APPLY) == []
    assert fleet.unlocked_hosts() == {"core", "workers B", "workers C"}


def test_a_release_that_cannot_work_with_the_database_changes_no_host(fleet) -> None:
    host = fleet.hosts["workers B"]
    newer = earlier_entry(
        host.plan, id="20261102-000000-0002", contract_migrations=("0003_setbacks",)
    )
    older = earlier_entry(host.plan, tag=TAG, contract_migrations=(), images={})
    host.history = history_lines(older, newer)
    fleet.respond(host.plan, FETCH, host.fetch_output())
    fleet.respond(fleet.plan("core"), "schema_migrations", "0003_setbacks\n")
    with pytest.raises(Conflict, match="cannot work with this database any more"):
        fleet.deploy()
    assert fleet.receivers_of(APPLY) == []
    assert fleet.unlocked_hosts() == {"core", "workers B", "workers C"}


def test_workers_are_not_changed_if_the_core_fails(fleet) -> None:
    fleet.fail("core", APPLY, DeploymentFailed("it does not start"))
    result = fleet.deploy()
    assert outcomes(result) == {"core": DeployOutcome.FAILED, "workers B": None, "workers C": None}
    assert fleet.receivers_of(APPLY) == ["core"]
    assert fleet.unlocked_hosts() == {"core", "workers B", "workers C"}
    assert result.failed[0].plan.host.name == "core"


def test_a_worker_node_that_fails_does_not_stop_the_others(fleet) -> None:
    fleet.fail("workers B", APPLY, DeploymentFailed("it does not start"))
    result = fleet.deploy()
    assert outcomes(result) == {
        "core": DeployOutcome.DEPLOYED,
        "workers B": DeployOutcome.FAILED,
        "workers C": DeployOutcome.DEPLOYED,
    }


def test_a_serial_rollout_stops_at_the_first_failure(fleet) -> None:
    fleet.fail("workers B", APPLY, DeploymentFailed("it does not start"))
    result = fleet.deploy(serial=True)
    assert outcomes(result)["workers C"] is None
    assert fleet.receivers_of(APPLY) == ["core", "workers B"]
    assert "workers C" in fleet.unlocked_hosts()


def test_hosts_are_prepared_at_the_same_time(fleet) -> None:
    all_hosts = threading.Barrier(3, timeout=10)

    def on_script(host: str, script: str) -> None:
        if CHECK in script:
            all_hosts.wait()

    fleet.transport.on_script = on_script
    assert fleet.deploy(parallel=3).is_good


def test_no_more_hosts_are_deployed_at_the_same_time_than_requested(fleet) -> None:
    running, counts = set[str](), list[int]()

    def on_script(host: str, script: str) -> None:
        running.add(host)
        counts.append(len(running))
        time.sleep(0.002)
        running.discard(host)

    fleet.transport.on_script = on_script
    assert fleet.deploy(parallel=1).is_good
    assert max(counts) == 1


def test_a_release_that_fails_on_one_host_is_rolled_back_there_only(fleet, release) -> None:
    host = fleet.hosts["workers B"]
    settings = {"IMAGE_NAME": "ghcr.io/ktrdr/ktrdr-backend", "IMAGE_TAG": TAG}
    good = earlier_entry(host.plan, tag=TAG, settings=settings)
    host.history = history_lines(good)
    kept = base64.b64encode(pack_archive(release.files)).decode()
    fleet.respond(host.plan, "|| base64", kept)
    host.containers.clear()
    fleet.respond(host.plan, FETCH, host.fetch_output())
    address = host.plan.host.address
    failed = Answer(1, stderr="no such network")
    fleet.transport.answer(failed, host=address, containing=APPLY)
    went_back = rollback_answer(host.plan, DeployOutcome.DEPLOYED)
    fleet.transport.answer(went_back, host=address, containing=GO_BACK)
    results = results_by_name(fleet.deploy())
    assert results["workers C"].is_good
    restored = results["workers B"].restored
    assert restored is not None
    assert restored.outcome is DeployOutcome.DEPLOYED
    assert restored.kind is DeployKind.AUTOMATIC_ROLLBACK
    assert (restored.id, restored.rolled_back_from) == (f"{DEPLOY_ID}-back", DEPLOY_ID)
    rollbacks = [event for _, event in fleet.events if isinstance(event, events.RollbackStarted)]
    assert [event.entry for event in rollbacks] == [good]


def test_without_automatic_rollback_the_failed_release_stays(fleet) -> None:
    host = fleet.hosts["workers B"]
    host.history = history_lines(earlier_entry(host.plan))
    host.containers.clear()
    fleet.respond(host.plan, FETCH, host.fetch_output())
    fleet.fail("workers B", APPLY, DeploymentFailed("it does not start"))
    assert results_by_name(fleet.deploy(rollback=False))["workers B"].restored is None


def test_unreadable_secrets_stop_the_deploy_before_it_reaches_a_host(fleet) -> None:
    fleet.vault.error = SecretsError("not signed in")
    with pytest.raises(SecretsError):
        fleet.deploy()
    assert fleet.transport.runs == []


def test_ctrl_c_while_the_secrets_are_read_changes_no_host(fleet) -> None:
    fleet.vault.error = KeyboardInterrupt()
    with pytest.raises(Interrupted, match="before it changed any host"):
        fleet.deploy()
    assert fleet.transport.runs == []


@pytest.mark.parametrize(
    ("owner", "function"), [(Homelab, "secret_values"), (rollout.Rollout, "__init__")]
)
def test_the_error_of_ctrl_c_before_the_first_host_says_that_none_was_changed(
    fleet, monkeypatch, owner, function
) -> None:
    def press(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, function, press)
    with pytest.raises(Interrupted, match="before it changed any host"):
        fleet.deploy()


# ----------------------------------------------------------------------- hosts that are off


def off() -> HostUnreachable:
    error = HostUnreachable("workers-b did not answer in time", hint="Switch it on.")
    error.is_off = True
    return error


def test_a_node_that_is_off_is_skipped_on_request(fleet) -> None:
    fleet.fail("workers B", LOCK, off())
    result = fleet.deploy(skip_unreachable=True)
    assert outcomes(result) == {
        "core": DeployOutcome.DEPLOYED,
        "workers B": None,
        "workers C": DeployOutcome.DEPLOYED,
    }
    error = results_by_name(result)["workers B"].error
    assert isinstance(error, HostSkipped)
    assert (error.exit_code, error.message) == (
        11,
        "workers B was skipped: workers-b did not answer in time",
    )
    assert error.hint == "When it is on again, run `ktrdr deploy workers all --behind`."
    assert (result.skipped, result.is_good) == (("workers B",), False)
    assert ("workers B", events.Warned(error.message)) in fleet.events
    recorded = fleet.transport.scripts_on(fleet.plan("core").host.address, RECORD)
    assert '"skipped":["workers B"]' in recorded[-1], "the histories of the others name it"


def test_a_node_that_is_often_off_is_skipped_without_a_request(fleet) -> None:
    plan = fleet.plan("workers B")
    often_off = replace(plan, config=replace(plan.config, is_often_off=True))
    fleet.plans = [often_off if each is plan else each for each in fleet.plans]
    fleet.fail("workers B", LOCK, off())
    assert fleet.deploy().skipped == ("workers B",)


def test_all_hosts_or_none_stays_the_default(fleet) -> None:
    fleet.fail("workers B", LOCK, off())
    result = fleet.deploy()
    assert (fleet.receivers_of(APPLY), result.skipped) == ([], ())
    assert result.failed[0].error.exit_code == 5


def test_only_a_host_that_is_off_is_skipped(fleet) -> None:
    """An unknown host key, for example, is an error as before."""
    fleet.fail("workers B", LOCK, HostUnreachable("the host key of workers-b has changed"))
    assert fleet.deploy(skip_unreachable=True).skipped == ()
    assert fleet.receivers_of(APPLY) == []


def test_a_host_that_is_lost_after_it_was_locked_is_not_skipped(fleet) -> None:
    fleet.fail("workers B", FETCH, off())
    assert fleet.deploy(skip_unreachable=True).skipped == ()
    assert fleet.receivers_of(APPLY) == []


def test_the_core_is_never_skipped(fleet) -> None:
    fleet.fail("core", LOCK, off())
    assert fleet.deploy(skip_unreachable=True).skipped == ()
    assert fleet.receivers_of(APPLY) == []


def test_nothing_is_skipped_if_another_host_is_not_ready(fleet) -> None:
    fleet.fail("workers B", LOCK, off())
    fleet.fail("workers C", CHECK, HostNotReady("Docker is missing"))
    result = fleet.deploy(skip_unreachable=True)
    assert (fleet.receivers_of(APPLY), result.skipped) == ([], ())
    assert {host.error.exit_code for host in result.failed} == {5, 6}


def test_a_deploy_to_hosts_that_are_all_off_fails(fleet) -> None:
    fleet.plans = fleet.plans[1:]
    for name in ("workers B", "workers C"):
        fleet.fail(name, LOCK, off())
    result = fleet.deploy(skip_unreachable=True)
    assert (result.skipped, result.failed[0].error.exit_code) == ((), 5)


def test_a_failure_comes_before_a_skipped_host(fleet) -> None:
    fleet.fail("workers B", LOCK, off())
    fleet.fail("workers C", APPLY, DeploymentFailed("it does not start"))
    result = fleet.deploy(skip_unreachable=True)
    assert [host.plan.host.name for host in result.failed] == ["workers C", "workers B"]


def test_a_skipped_node_counts_as_one_that_still_has_former_secrets(fleet) -> None:
    fleet.fail("workers B", LOCK, off())
    fleet.respond(fleet.plan("core"), APPLY, "== rotated\ndb_password\n")
    core = results_by_name(fleet.deploy(skip_unreachable=True))["core"]
    assert core.warnings == (
        "the workers of B still use the former db_password: run `ktrdr deploy workers B`",
    )


# ------------------------------------------------------------------------------------- drain


def test_only_nodes_that_change_are_drained(fleet) -> None:
    host = fleet.hosts["workers B"]
    fleet.respond(host.plan, FETCH, host.fetch_output())
    fleet.deploy(drain=True, drain_timeout=60)
    node = fleet.plan("workers C").host.address
    assert fleet.backend.requests == [f"drain {node}", f"undrain {node}"]


def test_a_node_that_cannot_be_drained_is_not_changed(fleet) -> None:
    fleet.backend.error = HostUnreachable("the backend does not respond")
    result = fleet.deploy(drain=True, drain_timeout=60)
    assert outcomes(result) == {
        "core": DeployOutcome.DEPLOYED,
        "workers B": None,
        "workers C": None,
    }
    assert fleet.receivers_of(APPLY) == ["core"]
    assert result.failed[0].error is fleet.backend.error


# ------------------------------------------------------------------------------------- hooks


@pytest.fixture
def hook(fleet, tmp_path) -> Callable[[str, str], Path]:
    """Return a function that adds a hook; it returns the file ``facts`` of the checkout."""
    fleet.checkout = tmp_path
    (tmp_path / ".ktrdr/hooks").mkdir(parents=True)

    def add(name: str, body: str) -> Path:
        checkout: Path = tmp_path
        file = checkout / ".ktrdr/hooks" / name
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)
        return checkout / "facts"

    return add


def test_a_hook_that_refuses_the_deploy_keeps_all_hosts_unchanged(fleet, hook) -> None:
    hook("pre-deploy", "echo not on a Friday; exit 3")
    with pytest.raises(Conflict, match="code 3: not on a Friday"):
        fleet.deploy()
    assert not fleet.transport.runs


def test_hooks_receive_the_outcome(fleet, hook) -> None:
    facts = hook("notify", 'echo "$KTRDR_OUTCOME $KTRDR_TARGETS" >facts')
    hook("post-deploy", "exit 9")
    fleet.deploy()
    assert facts.read_text() == "deployed core, workers B, workers C\n"
    (warning,) = [event for _, event in fleet.events if isinstance(event, events.Warned)]
    assert "post-deploy exited with code 9" in warning.message


def test_hooks_receive_the_skipped_hosts_of_a_good_deploy(fleet, hook) -> None:
    facts = hook("post-deploy", 'echo "$KTRDR_OUTCOME without $KTRDR_SKIPPED" >facts')
    fleet.fail("workers B", LOCK, off())
    fleet.deploy(skip_unreachable=True)
    assert facts.read_text() == "deployed without workers B\n"


def test_hooks_receive_the_reason_of_a_cancelled_deploy(fleet, hook) -> None:
    facts = hook("on-failure", 'echo "$KTRDR_OUTCOME: $KTRDR_REASON" >facts')
    fleet.refusal = Interrupted("cancelled")
    with pytest.raises(Interrupted):
        fleet.deploy()
    assert facts.read_text() == "interrupted: cancelled\n"
