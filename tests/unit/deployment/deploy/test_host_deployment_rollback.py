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
from ktrdr.errors import DeploymentFailed, HostNotReady
from tests.recording_transport import Answer
from tests.unit.deployment.conftest import NOW, TAG
from tests.unit.deployment.harness import (
    APPLY,
    FETCH,
    VERIFY,
    DeploymentHarness,
    earlier_entry,
)
from tests.unit.deployment.histories import history_lines

DOCKER_QUERY = "Usage: wait_for_docker.sh"
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

    def make(**earlier: Any) -> DeploymentHarness:
        plan = planned()
        harness = DeploymentHarness(plan, clock, plan_rollback=plan_rollback)
        harness.host.history = history_lines(earlier_entry(plan, **earlier))
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


def test_a_release_that_does_not_become_healthy_is_replaced_by_the_previous_one(failing) -> None:
    harness = failing()
    result = harness.deployment.apply()
    assert isinstance(result.error, DeploymentFailed)
    first, second = harness.scripts_with(APPLY)
    assert "export IMAGE_TAG=sha-abc1234" in first
    assert '"kind":"automatic rollback"' in second
    assert result.restored.tag == "sha-0000001"
    assert harness.ended_event()["id"] == harness.deployment.plan.entry.id
    assert harness.ended_event()["outcome"] == "failed"
    assert harness.ended_event()["containers"] == {}, "the failed release's containers are gone"


def test_a_rollback_records_the_containers_that_run_at_its_end(failing) -> None:
    harness = failing(tag=TAG, settings={**OWN_IMAGE, "IMAGE_TAG": TAG})
    unhealthy = verified(harness)
    set_backend_health(harness, "healthy")
    harness.transport.answer(unhealthy, verified(harness), containing=VERIFY)
    restored = harness.deployment.apply().restored
    assert restored.outcome.is_good
    assert restored.containers["backend"] == harness.host.containers["backend"]["id"][:12]
    assert harness.ended_event()["containers"] == {}


def test_a_rollback_pins_images_to_the_recorded_digests(failing) -> None:
    harness = failing(settings={**OWN_IMAGE, "IMAGE_TAG": "sha-0000001"})
    harness.deployment.apply()
    pinned = "--pin ghcr.io/ktrdr/ktrdr-backend:sha-0000001@sha256:old"
    assert pinned in harness.scripts_with(FETCH)[-1]


def test_a_host_whose_docker_stopped_is_recovered_if_the_rollback_fails_too(failing) -> None:
    harness = failing()
    harness.transport.answer(DOCKER_STOPPED, containing=VERIFY)
    harness.transport.answer(DOCKER_STOPPED, containing=FETCH)
    result = harness.deployment.apply()
    assert isinstance(result.error, HostNotReady)
    assert not result.restored.outcome.is_good
    assert result.warnings[-1] == (
        "the rollback to sha-0000001 failed, too: "
        "the Docker daemon of backend.lab.test stopped running"
    )
    assert any("main /opt/ktrdr-core ktrdr-core 8" in script for script in harness.scripts)
    assert harness.ended_event()["outcome"] == "failed"


def test_a_rollback_waits_for_docker_if_it_stopped(failing) -> None:
    harness = failing(tag=TAG, settings={**OWN_IMAGE, "IMAGE_TAG": TAG})
    set_backend_health(harness, "healthy")
    harness.transport.answer(DOCKER_STOPPED, Answer(), containing=APPLY)
    harness.transport.answer(verified(harness), containing=VERIFY)
    harness.transport.answer(Answer(exit_code=1), Answer(), containing=DOCKER_QUERY)
    result = harness.deployment.apply()
    assert isinstance(result.error, HostNotReady)
    assert result.restored.outcome.is_good
    reasons = [event.reason for event in harness.events if isinstance(event, events.Waiting)]
    assert reasons == ["Docker on backend.lab.test does not respond"]
    first, second = harness.scripts_with(DOCKER_QUERY)
    assert "\n    main 0\n" in first
    assert "\n    main 60\n" in second


def test_a_rollback_does_not_wait_for_docker_that_responds(failing) -> None:
    harness = failing()
    port_in_use = Answer(exit_code=1, stderr="Bind for 0.0.0.0:80: port is already allocated")
    harness.transport.answer(port_in_use, Answer(), containing=APPLY)
    harness.deployment.apply()
    assert not [event for event in harness.events if isinstance(event, events.Waiting)]


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


def test_the_same_command_again_rolls_back_what_an_earlier_one_left_unhealthy(
    planned, release, clock
):
    plan = planned()
    harness = DeploymentHarness(plan, clock, plan_rollback=plan_rollback)
    settings = {**OWN_IMAGE, "IMAGE_TAG": "sha-0000001"}
    cut_off = earlier_entry(plan, id="20261102-000000-0001", tag=TAG)
    harness.host.history = [
        *history_lines(earlier_entry(plan, settings=settings)),
        cut_off.begun_event(),
    ]
    harness.ready()
    set_backend_health(harness, "unhealthy")
    harness.transport.answer(Answer(stdout=harness.host.fetch_output()), containing=FETCH)
    harness.transport.answer(verified(harness), containing=VERIFY)
    kept = base64.b64encode(pack_archive(release.files)).decode()
    harness.transport.answer(Answer(stdout=kept), containing="Usage: read_configuration.sh")
    harness.deployment.prepare()
    result = harness.deployment.apply()
    assert isinstance(result.error, DeploymentFailed)
    assert result.restored
    assert result.restored.tag == "sha-0000001"
    events = [line for script in harness.scripts for line in recorded_events(script)]
    assert [(each["id"][16:], each["event"]) for each in events] == [
        ("ab12", "begun"),
        ("ab12-back", "begun"),
        ("ab12-back", "ended"),
        ("ab12", "ended"),
    ], "the last entry of the history is what runs"


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
