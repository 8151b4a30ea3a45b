"""Removal of a stack: what is removed, in which order, and what only on request."""

from __future__ import annotations

import pytest

from ktrdr.deployment.down import remove_stack
from tests.recording_transport import Answer
from tests.unit.deployment.sample_hosts import BACKEND_IMAGE, TAG, B, container_json, script_output
from tests.unit.deployment.test_services import ManagedHost


@pytest.fixture
def node(product, clock) -> ManagedHost:
    host = ManagedHost(B, product, clock)
    resources = script_output({"containers": ["w-1"], "networks": ["w_net"], "volumes": ["w_data"]})
    host.transport.answer(Answer(stdout=resources), containing="Usage: list_stack.sh")
    host.set_containers(container_json("worker-1"))
    return host


def last_script(host: ManagedHost) -> str:
    return host.transport.runs[-1].script.reveal()


def test_services_are_stopped_before_they_are_removed_and_the_data_stays(node) -> None:
    removed = remove_stack(node.manager, volumes=False)
    assert removed.to_json() == {
        "containers": ["w-1"],
        "networks": ["w_net"],
        "volumes": ["w_data"],
    }
    assert node.changes() == [["stop", "id-of-worker-1"]]
    assert "Usage: remove_stack.sh" in last_script(node)
    assert "--volumes no" in last_script(node)


def test_the_data_is_removed_on_request(node) -> None:
    remove_stack(node.manager, volumes=True)
    assert "--volumes yes" in last_script(node)


def test_secrets_in_the_hosts_memory_are_removed_with_the_containers(node) -> None:
    remove_stack(node.manager, volumes=False)
    assert "--secrets-directory /run/ktrdr/ktrdr-workers" in last_script(node)
    assert "remove_secret_files worker" in last_script(node)
    # A user who is not root removes them in a container of an image that the host has.
    assert f"{BACKEND_IMAGE}:{TAG}" in last_script(node)


def test_a_host_without_containers_stops_nothing(node) -> None:
    node.set_containers()
    remove_stack(node.manager, volumes=False)
    assert node.changes() == []
