"""The automatic rollback of one host: a failed release is replaced by the last good one."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy.plan import Plan, make_plan
from ktrdr.deployment.hosts.history import DeployKind, DeployOutcome, HistoryEntry
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.releases.release import Release, pack_archive
from ktrdr.errors import DeploymentFailed, HostNotReady, Interrupted
from tests.recording_transport import Answer
from tests.unit.deployment.conftest import NOW, TAG
from tests.unit.deployment.harness import (
    APPLY,
    FETCH,
    GO_BACK,
    RECORD,
    VERIFY,
    DeploymentHarness,
    earlier_entry,
    rollback_answer,
)
from tests.unit.deployment.histories import history_lines

DOCKER_STOPPED = Answer(1, stderr="Cannot connect to the Docker daemon. Is it running?")
OWN_IMAGE = {"IMAGE_NAME": "ghcr.io/ktrdr/ktrdr-backend"}


def plan_rollback(plan: Plan, entry: HistoryEntry, release: Release) -> Plan:
    return make_plan(
        plan.product,
        plan.host,
        release,
        DeployId(f"{plan.entry.id}-back", "ada", NOW),
        plan.options,
        kind=DeployKind.AUTOMATIC_ROLLBACK,
        redeploy_of=entry,
        rolled_back_from=plan.entry.id,
        lock_owner=plan.lock_owner,
    )


@pytest.fixture
def failing(planned, release, clock) -> Callable[..., DeploymentHarness]:
    """Deploy whose backend never becomes healthy, to a host that ran another release before."""

    def make(*, is_applied: bool = False, **earlier: Any) -> DeploymentHarness:
        plan = planned()
        harness = DeploymentHarness(plan, clock, plan_rollback=plan_rollback)
        harness.host.history = history_lines(earlier_entry(plan, **earlier))
        if is_applied:
            harness.host.run_all()
            set_backend_health(harness, "unhealthy")
        harness.ready()
        set_backend_health(harness, "unhealthy")
        unhealthy = verified(harness)
        harness.transport.answer(unhealthy, Answer(stdout="x"), unhealthy, containing=VERIFY)
        kept = base64.b64encode(pack_archive(release.files)).decode()
        harness.transport.answer(Answer(stdout=kept), containing="Usage: read_configuration.sh")
        harness.deployment.prepare()
        return harness

    return make


def set_backend_health(harness: DeploymentHarness, health: str) -> None:
    harness.host.containers["backend"]["state"]["Health"]["Status"] = health


def recorded_events(script: str) -> list[dict[str, Any]]:
    """Return the events that a script appends to the history."""
    lines = [line for line in script.splitlines() if line.lstrip().startswith("--event")]
    words = shlex.split("\n".join(line.rstrip("\\") for line in lines))
    return [json.loads(word) for word in words if word.startswith("{")]


def verified(harness: DeploymentHarness) -> Answer:
    """Return the answer of the host to a health query."""
    return Answer(stdout=harness.host.verify_output())


def went_back(harness: DeploymentHarness, outcome: DeployOutcome, stderr: str = "") -> None:
    """Answer to a request to go back as the host does, which has recorded it."""
    answer = rollback_answer(harness.deployment.plan, outcome, stderr)
    harness.transport.answer(answer, containing=GO_BACK)


def test_the_host_is_told_how_to_go_back_before_anything_changes(failing) -> None:
    harness = failing(settings={**OWN_IMAGE, "IMAGE_TAG": "sha-0000001"})
    harness.deployment.apply()
    (script,) = harness.scripts_with(APPLY)
    assert "export IMAGE_TAG=sha-abc1234" in script
    assert '"kind":"automatic rollback"' in script
    assert "export IMAGE_TAG=sha-0000001" in script
    assert "--way-back sha-0000001" in script
    assert "--pin ghcr.io/ktrdr/ktrdr-backend:sha-0000001@sha256:old" in script


def test_a_release_that_does_not_become_healthy_is_replaced_by_the_previous_one(failing) -> None:
    harness = failing()
    went_back(harness, DeployOutcome.DEPLOYED)
    result = harness.deployment.apply()
    assert isinstance(result.error, DeploymentFailed)
    assert result.restored.tag == "sha-0000001"
    assert result.restored.outcome is DeployOutcome.DEPLOYED
    assert harness.ended_event()["id"] == harness.deployment.plan.entry.id
    assert harness.ended_event()["outcome"] == "failed"
    assert harness.ended_event()["containers"] == {}, "the failed release's containers are gone"
    (shown,) = [event for event in harness.events if isinstance(event, events.RollbackStarted)]
    assert shown.entry.tag == "sha-0000001"


def test_a_rollback_that_fails_too_is_a_warning_with_the_reason(failing) -> None:
    harness = failing()
    went_back(harness, DeployOutcome.FAILED, stderr="no space left on device\n")
    result = harness.deployment.apply()
    assert not result.restored.outcome.is_good
    assert result.warnings[-1] == (
        "the rollback to sha-0000001 failed, too: no space left on device"
    )
    assert harness.ended_event()["outcome"] == "failed"


def test_a_host_whose_docker_stopped_goes_back_too(failing) -> None:
    harness = failing()
    went_back(harness, DeployOutcome.DEPLOYED)
    harness.transport.answer(DOCKER_STOPPED, containing=VERIFY)
    result = harness.deployment.apply()
    assert isinstance(result.error, HostNotReady)
    assert result.restored.outcome.is_good


def test_an_operator_who_interrupts_the_rollback_leaves_it_to_the_host(failing) -> None:
    harness = failing()
    harness.transport.answer(Answer(error=Interrupted("stop")), containing=GO_BACK)
    result = harness.deployment.apply()
    assert result.warnings[-1] == (
        "core goes back to sha-0000001 by itself: follow it with `ktrdr deploy watch core`"
    )
    assert not harness.scripts_with(RECORD)


def test_the_same_command_again_goes_back_although_it_changes_nothing(failing) -> None:
    harness = failing(is_applied=True)
    went_back(harness, DeployOutcome.DEPLOYED)
    result = harness.deployment.apply()
    assert isinstance(result.error, DeploymentFailed)
    assert result.restored.outcome.is_good
    (script,) = harness.scripts_with(APPLY)
    assert "apply_new() {\n    :\n}" in script
    assert "--way-back sha-0000001" in script


def test_a_host_does_not_roll_back_to_the_very_release_that_failed(failing) -> None:
    result = failing(tag=TAG).deployment.apply()
    assert result.restored is None
    assert "this release is also the last good one" in result.warnings[-1]


def test_without_an_earlier_release_the_failed_one_stays_with_a_warning(failing) -> None:
    result = failing(outcome=DeployOutcome.FAILED).deployment.apply()
    assert result.restored is None
    assert "no earlier release" in result.warnings[-1]


def test_without_automatic_rollback_the_failed_release_stays(failing) -> None:
    harness = failing()
    harness.deployment.plan_rollback = None
    assert harness.deployment.apply().restored is None


def test_a_docker_that_does_not_answer_is_no_reason_to_leave_an_unchanged_release(planned, clock):
    plan = planned()
    harness = DeploymentHarness(plan, clock, plan_rollback=plan_rollback)
    harness.host.history = history_lines(earlier_entry(plan))
    harness.ready()
    set_backend_health(harness, "starting")
    harness.transport.answer(Answer(stdout=harness.host.fetch_output()), containing=FETCH)
    harness.transport.answer(DOCKER_STOPPED, containing=VERIFY)
    harness.deployment.prepare()
    result = harness.deployment.apply()
    assert isinstance(result.error, HostNotReady)
    assert result.restored is None
