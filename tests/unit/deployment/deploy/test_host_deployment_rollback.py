"""The runner's way back: what failed gives way to the last good release."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy.plan import Stamp, make
from ktrdr.deployment.hosts.history import Entry, Kind, Outcome
from ktrdr.deployment.releases.archive import pack_files
from ktrdr.errors import (
    DeploymentFailed,
    HostNotReady,
)
from tests.recording_transport import Answer
from tests.unit.deployment.conftest import NOW, TAG
from tests.unit.deployment.watched import (
    APPLY,
    FETCH,
    VERIFY,
    Watched,
    earlier,
)

DOCKER_ANSWERS = "Usage: wait_for_docker.sh"


@pytest.fixture
def failing(planned, release, inventory, clock) -> Callable[..., Watched]:
    """A deploy whose backend never becomes healthy, on a host that ran another release before."""

    def make_failing(**changes: Any) -> Watched:
        plan = planned()

        def replan(old: Any, entry: Entry, kept: Any) -> Any:
            stamp = Stamp(f"{old.entry.id}-back", "ada", NOW, owner=old.owner)
            request = replace(old.request, kind=Kind.RESTORE, again=entry, of=old.entry.id)
            return make(inventory, request, kept, stamp)

        watch = Watched(plan, clock, replan=replan)
        good = earlier(plan, **changes)
        watch.host.history = [good.begun(), good.ended()]
        watch.ready()
        watch.host.containers["backend"]["state"]["Health"]["Status"] = "unhealthy"
        sick = Answer(stdout=watch.host.verify_output())
        watch.transport.answer(sick, Answer(stdout="x"), sick, containing=VERIFY)
        kept = base64.b64encode(pack_files(release.files)).decode()
        watch.transport.answer(Answer(stdout=kept), containing="Usage: read_configuration.sh")
        return watch

    return make_failing


def test_a_release_that_does_not_become_healthy_gives_way_to_the_one_before(failing) -> None:
    watch = failing()
    watch.runner.prepare()
    result = watch.runner.carry_out()
    assert isinstance(result.error, DeploymentFailed)
    first, second = [script for script in watch.scripts if APPLY in script]
    assert "export IMAGE_TAG=sha-abc1234" in first
    assert '"kind":"automatic rollback"' in second
    assert result.restored.tag == "sha-0000001"
    assert watch.ended()["id"] == watch.runner.plan.entry.id
    assert watch.ended()["outcome"] == "failed"
    assert watch.ended()["containers"] == {}, "what failed is in place no more"


def test_the_containers_that_the_way_back_has_left_are_written_down_with_it(failing) -> None:
    settings = {"IMAGE_NAME": "ghcr.io/ktrdr/ktrdr-backend", "IMAGE_TAG": TAG}
    watch = failing(tag=TAG, settings=settings)
    sick = Answer(stdout=watch.host.verify_output())
    watch.host.containers["backend"]["state"]["Health"]["Status"] = "healthy"
    well = Answer(stdout=watch.host.verify_output())
    watch.transport.answer(sick, well, containing=VERIFY)
    watch.runner.prepare()
    restored = watch.runner.carry_out().restored
    assert restored.outcome.is_good
    assert restored.containers["backend"] == watch.host.containers["backend"]["id"][:12]
    assert watch.ended()["containers"] == {}


def test_the_way_back_pins_images_to_the_digests_that_ran(failing) -> None:
    watch = failing(
        settings={"IMAGE_TAG": "sha-0000001", "IMAGE_NAME": "ghcr.io/ktrdr/ktrdr-backend"}
    )
    watch.runner.prepare()
    watch.runner.carry_out()
    fetched = [script for script in watch.scripts if FETCH in script][-1]
    assert "--pin ghcr.io/ktrdr/ktrdr-backend:sha-0000001@sha256:old" in fetched


def test_a_host_whose_docker_went_away_is_put_right_when_the_way_back_fails_too(failing) -> None:
    watch = failing()
    away = Answer(exit_code=1, stderr="Cannot connect to the Docker daemon. Is it running?")
    watch.transport.answer(away, containing=VERIFY)
    watch.runner.prepare()
    watch.transport.answer(away, containing=FETCH)
    result = watch.runner.carry_out()
    assert isinstance(result.error, HostNotReady)
    assert not result.restored.outcome.is_good
    assert any("main /opt/ktrdr-core ktrdr-core 8" in script for script in watch.scripts)
    assert watch.ended()["outcome"] == "failed"


def test_a_docker_that_went_away_is_waited_for_before_the_way_back(failing) -> None:
    settings = {"IMAGE_NAME": "ghcr.io/ktrdr/ktrdr-backend", "IMAGE_TAG": TAG}
    watch = failing(tag=TAG, settings=settings)
    watch.runner.prepare()
    away = Answer(exit_code=1, stderr="Cannot connect to the Docker daemon. Is it running?")
    watch.host.containers["backend"]["state"]["Health"]["Status"] = "healthy"
    well = Answer(stdout=watch.host.verify_output())
    watch.transport.answer(away, Answer(), containing=APPLY)
    watch.transport.answer(well, containing=VERIFY)
    watch.transport.answer(Answer(exit_code=1), Answer(), containing=DOCKER_ANSWERS)
    result = watch.runner.carry_out()
    assert isinstance(result.error, HostNotReady)
    assert result.restored.outcome.is_good
    told = [event.reason for event in watch.events if isinstance(event, events.Waiting)]
    assert told == ["Docker on backend.lab.test does not answer"]
    at_once, patient = [script for script in watch.scripts if DOCKER_ANSWERS in script]
    assert "\n    main 0\n" in at_once
    assert "\n    main 60\n" in patient


def test_a_docker_that_answers_is_not_waited_for(failing) -> None:
    watch = failing()
    watch.runner.prepare()
    taken = Answer(exit_code=1, stderr="Bind for 0.0.0.0:80: port is already allocated")
    watch.transport.answer(taken, Answer(), containing=APPLY)
    watch.runner.carry_out()
    assert not [event for event in watch.events if isinstance(event, events.Waiting)]


def test_the_very_release_that_failed_is_not_gone_back_to(failing) -> None:
    watch = failing(tag=TAG)
    watch.runner.prepare()
    result = watch.runner.carry_out()
    assert result.restored is None
    assert "this very one" in result.warnings[-1]


def test_without_an_earlier_release_what_failed_stays_and_that_is_said(failing) -> None:
    watch = failing(outcome=Outcome.FAILED)
    watch.runner.prepare()
    result = watch.runner.carry_out()
    assert result.restored is None
    assert "no earlier release" in result.warnings[-1]


def test_the_wreck_is_kept_where_that_is_wanted(failing) -> None:
    watch = failing()
    watch.runner.replan = None
    watch.runner.prepare()
    assert watch.runner.carry_out().restored is None
