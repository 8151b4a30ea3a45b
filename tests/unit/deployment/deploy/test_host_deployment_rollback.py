"""The runner's way back: what failed gives way to the last good release."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy.plan import Stamp, make
from ktrdr.deployment.hosts.history import DeployKind, DeployOutcome, HistoryEntry
from ktrdr.deployment.scripts import release as files
from ktrdr.errors import (
    DeploymentFailed,
    HostNotReady,
)
from tests.recording_transport import Answer
from tests.unit.deployment.conftest import NOW, TAG
from tests.unit.deployment.harness import (
    APPLY,
    FETCH,
    VERIFY,
    DeploymentHarness,
    earlier,
)

DOCKER_ANSWERS = "until docker version"


@pytest.fixture
def failing(planned, release, inventory, clock) -> Callable[..., DeploymentHarness]:
    """A deploy whose backend never becomes healthy, on a host that ran another release before."""

    def make_failing(**changes: Any) -> DeploymentHarness:
        plan = planned()

        def replan(old: Any, entry: HistoryEntry, kept: Any) -> Any:
            stamp = Stamp(f"{old.entry.id}-back", "ada", NOW, owner=old.owner)
            request = replace(
                old.request,
                kind=DeployKind.AUTOMATIC_ROLLBACK,
                redeploy_of=entry,
                rolled_back_from=old.entry.id,
            )
            return make(inventory, request, kept, stamp)

        harness = DeploymentHarness(plan, clock, replan=replan)
        good = earlier(plan, **changes)
        harness.host.history = [good.begun(), good.ended()]
        harness.ready()
        harness.host.containers["backend"]["state"]["Health"]["Status"] = "unhealthy"
        sick = Answer(stdout=harness.host.verify_output())
        harness.transport.answer(sick, Answer(stdout="x"), sick, containing=VERIFY)
        kept = base64.b64encode(files.archive(release.files)).decode()
        harness.transport.answer(Answer(stdout=kept), containing="|| base64")
        return harness

    return make_failing


def test_a_release_that_does_not_become_healthy_gives_way_to_the_one_before(failing) -> None:
    harness = failing()
    harness.deployment.prepare()
    result = harness.deployment.apply()
    assert isinstance(result.error, DeploymentFailed)
    first, second = [script for script in harness.scripts if APPLY in script]
    assert "export IMAGE_TAG=sha-abc1234" in first
    assert '"kind":"automatic rollback"' in second
    assert result.restored.tag == "sha-0000001"
    assert harness.ended()["id"] == harness.deployment.plan.entry.id
    assert harness.ended()["outcome"] == "failed"
    assert harness.ended()["containers"] == {}, "what failed is in host no more"


def test_the_containers_that_the_way_back_has_left_are_written_down_with_it(failing) -> None:
    settings = {"IMAGE_NAME": "ghcr.io/ktrdr/ktrdr-backend", "IMAGE_TAG": TAG}
    harness = failing(tag=TAG, settings=settings)
    sick = Answer(stdout=harness.host.verify_output())
    harness.host.containers["backend"]["state"]["Health"]["Status"] = "healthy"
    well = Answer(stdout=harness.host.verify_output())
    harness.transport.answer(sick, well, containing=VERIFY)
    harness.deployment.prepare()
    restored = harness.deployment.apply().restored
    assert restored.outcome.is_good
    assert restored.containers["backend"] == harness.host.containers["backend"]["id"][:12]
    assert harness.ended()["containers"] == {}


def test_the_way_back_pins_images_to_the_digests_that_ran(failing) -> None:
    harness = failing(
        settings={"IMAGE_TAG": "sha-0000001", "IMAGE_NAME": "ghcr.io/ktrdr/ktrdr-backend"}
    )
    harness.deployment.prepare()
    harness.deployment.apply()
    fetched = [script for script in harness.scripts if FETCH in script][-1]
    pinned = (
        "docker tag ghcr.io/ktrdr/ktrdr-backend@sha256:old ghcr.io/ktrdr/ktrdr-backend:sha-0000001"
    )
    assert pinned in fetched


def test_a_host_whose_docker_went_away_is_put_right_when_the_way_back_fails_too(failing) -> None:
    harness = failing()
    away = Answer(exit_code=1, stderr="Cannot connect to the Docker daemon. Is it running?")
    harness.transport.answer(away, containing=VERIFY)
    harness.deployment.prepare()
    harness.transport.answer(away, containing=FETCH)
    result = harness.deployment.apply()
    assert isinstance(result.error, HostNotReady)
    assert not result.restored.outcome.is_good
    assert any("\nrecover 8" in script for script in harness.scripts)
    assert harness.ended()["outcome"] == "failed"


def test_a_docker_that_went_away_is_waited_for_before_the_way_back(failing) -> None:
    settings = {"IMAGE_NAME": "ghcr.io/ktrdr/ktrdr-backend", "IMAGE_TAG": TAG}
    harness = failing(tag=TAG, settings=settings)
    harness.deployment.prepare()
    away = Answer(exit_code=1, stderr="Cannot connect to the Docker daemon. Is it running?")
    harness.host.containers["backend"]["state"]["Health"]["Status"] = "healthy"
    well = Answer(stdout=harness.host.verify_output())
    harness.transport.answer(away, Answer(), containing=APPLY)
    harness.transport.answer(well, containing=VERIFY)
    harness.transport.answer(Answer(exit_code=1), Answer(), containing=DOCKER_ANSWERS)
    result = harness.deployment.apply()
    assert isinstance(result.error, HostNotReady)
    assert result.restored.outcome.is_good
    told = [event.reason for event in harness.events if isinstance(event, events.Waiting)]
    assert told == ["Docker on backend.lab.test does not answer"]
    at_once, patient = [script for script in harness.scripts if DOCKER_ANSWERS in script]
    assert "+ 0))" in at_once
    assert "+ 60))" in patient


def test_a_docker_that_answers_is_not_waited_for(failing) -> None:
    harness = failing()
    harness.deployment.prepare()
    taken = Answer(exit_code=1, stderr="Bind for 0.0.0.0:80: port is already allocated")
    harness.transport.answer(taken, Answer(), containing=APPLY)
    harness.deployment.apply()
    assert not [event for event in harness.events if isinstance(event, events.Waiting)]


def test_the_very_release_that_failed_is_not_gone_back_to(failing) -> None:
    harness = failing(tag=TAG)
    harness.deployment.prepare()
    result = harness.deployment.apply()
    assert result.restored is None
    assert "this very one" in result.warnings[-1]


def test_without_an_earlier_release_what_failed_stays_and_that_is_said(failing) -> None:
    harness = failing(outcome=DeployOutcome.FAILED)
    harness.deployment.prepare()
    result = harness.deployment.apply()
    assert result.restored is None
    assert "no earlier release" in result.warnings[-1]


def test_the_wreck_is_kept_where_that_is_wanted(failing) -> None:
    harness = failing()
    harness.deployment.replan = None
    harness.deployment.prepare()
    assert harness.deployment.apply().restored is None
