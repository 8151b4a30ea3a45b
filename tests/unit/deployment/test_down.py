"""Taking a stack down: what goes, in which order, and what only on an explicit word."""

from __future__ import annotations

import pytest

from ktrdr.deployment import down as removal
from tests.recording_transport import Answer
from tests.unit.deployment.day import BACKEND_IMAGE, TAG, B, described, sections
from tests.unit.deployment.test_services import Ground


@pytest.fixture
def node(clock) -> Ground:
    ground = Ground(B, clock)
    there = sections({"containers": ["w-1"], "networks": ["w_net"], "volumes": ["w_data"]})
    ground.hosts.answer(Answer(stdout=there), containing="Usage: list_stack.sh")
    ground.has(described("worker-1"))
    return ground


def last_script(ground: Ground) -> str:
    return ground.hosts.runs[-1].script.reveal()


def test_everything_is_stopped_before_it_is_removed_and_the_data_stays(node: Ground) -> None:
    gone = removal.remove(node.attendant, volumes=False)
    assert gone.to_json() == {"containers": ["w-1"], "networks": ["w_net"], "volumes": ["w_data"]}
    assert node.done() == [["stop", "id-of-worker-1"]]
    assert "Usage: remove_stack.sh" in last_script(node)
    assert "--volumes no" in last_script(node)


def test_the_data_goes_on_an_explicit_word(node: Ground) -> None:
    removal.remove(node.attendant, volumes=True)
    assert "--volumes yes" in last_script(node)


def test_secrets_in_the_hosts_memory_go_with_the_containers(node: Ground) -> None:
    removal.remove(node.attendant, volumes=False)
    assert "--secrets-directory /run/ktrdr/ktrdr-workers" in last_script(node)
    assert "remove_secret_files worker" in last_script(node)
    # Who is not root does it by a container of an image that is there.
    assert f"{BACKEND_IMAGE}:{TAG}" in last_script(node)


def test_where_nothing_runs_nothing_is_stopped(node: Ground) -> None:
    node.has()
    removal.remove(node.attendant, volumes=False)
    assert node.done() == []
