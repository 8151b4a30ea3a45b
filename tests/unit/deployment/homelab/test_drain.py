"""Drain of a node: workers finish their operations before a deploy replaces them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ktrdr.deployment.deploy import events
from ktrdr.deployment.homelab.drain import drained
from ktrdr.deployment.hosts.actions import HistoryAction
from ktrdr.errors import HostUnreachable, KtrdrError
from ktrdr.schemas import DrainMode, Worker
from tests.unit.deployment.fleet import registered_worker
from tests.unit.deployment.harness import DeploymentHarness, SimulatedBackend

UNREACHABLE = HostUnreachable("the backend does not respond")


@pytest.fixture
def harness(planned, clock) -> DeploymentHarness:
    return DeploymentHarness(planned("workers"), clock)


@pytest.fixture
def deployment(harness):
    return harness.deployment


@pytest.fixture
def backend(harness) -> SimulatedBackend:
    backend: SimulatedBackend = harness.backend
    return backend


@pytest.fixture
def node(deployment) -> str:
    address: str = deployment.plan.host.address
    return address


def workers(harness: DeploymentHarness, *operations: str | None, **changes: object) -> list[Worker]:
    """Return a worker on the node for each operation; None stands for an idle worker."""
    plan = harness.deployment.plan
    return [
        registered_worker(plan, f"http://{number}", operation).model_copy(update=changes)
        for number, operation in enumerate(operations)
    ]


def finished_details(harness: DeploymentHarness) -> list[str]:
    return [event.detail for event in harness.events if isinstance(event, events.StepFinished)]


def test_a_node_gets_no_new_operations_until_the_deploy_ends(deployment, backend, node) -> None:
    with drained(deployment, backend, 60):
        assert backend.requests == [f"drain {node}"]
    assert backend.requests == [f"drain {node}", f"undrain {node}"]


def test_the_backend_knows_the_node_by_its_name_in_the_network(deployment, backend) -> None:
    config = deployment.plan.config
    host = replace(config.host, address="pve-b", dns_name="box.lan")
    deployment.plan = replace(deployment.plan, config=replace(config, host=host))
    with drained(deployment, backend, 60):
        assert backend.requests == ["drain box.lan"]


def test_a_drain_waits_for_running_operations(harness, deployment, backend) -> None:
    busy = workers(harness, "op-1", "op-2")
    backend.responses = [busy, busy, workers(harness, None, "op-2"), workers(harness, None, None)]
    with drained(deployment, backend, 60):
        assert deployment.clock.monotonic() == 2.0
    assert events.Waiting("2 running: op-1, op-2") in harness.events
    assert events.Waiting("1 running: op-2") in harness.events
    assert finished_details(harness) == ["no running operation"]


def test_a_drain_does_not_wait_for_operations_on_other_nodes(harness, deployment, backend) -> None:
    backend.responses = [workers(harness, "op-1", node="elsewhere")]
    with drained(deployment, backend, 60):
        assert deployment.clock.monotonic() == 0.0


def test_a_drain_waits_no_longer_than_its_timeout(harness, deployment, backend) -> None:
    backend.responses = [workers(harness, "op-1")]
    with drained(deployment, backend, 5):
        assert deployment.clock.monotonic() == 5.0
    assert finished_details(harness) == ["1 still running, to be requeued"]


def test_an_interruption_ends_the_wait_of_a_drain(harness, deployment, backend, node) -> None:
    backend.responses = [workers(harness, "op-1")]
    deployment.stopping.set()
    with drained(deployment, backend, 3600):
        assert deployment.clock.monotonic() == 0.0
    assert backend.requests[-1] == f"undrain {node}"


def test_a_node_gets_operations_again_after_a_failed_deploy(deployment, backend, node) -> None:
    with pytest.raises(ZeroDivisionError), drained(deployment, backend, 60):
        raise ZeroDivisionError
    assert backend.requests[-1] == f"undrain {node}"


class LostBackend(SimulatedBackend):
    """Backend that lists its workers so many times, and then cannot be reached any more."""

    def __init__(self, listings: int, workers: Sequence[Worker]) -> None:
        super().__init__(workers)
        self.listings = listings

    def workers(self) -> Sequence[Worker]:
        if not self.listings:
            raise UNREACHABLE
        self.listings -= 1
        return super().workers()


def test_a_node_gets_operations_again_if_the_backend_is_lost(harness, deployment, node) -> None:
    backend = LostBackend(2, workers(harness, "op-1"))
    with pytest.raises(HostUnreachable), drained(deployment, backend, 60):
        pytest.fail("the deploy must not start")
    assert backend.requests[-1] == f"undrain {node}"
    assert isinstance(harness.events[-1], events.StepFailed)


class UndrainableBackend(SimulatedBackend):
    """Backend that lists its workers, and refuses to drain."""

    def drain(self, node: str) -> None:
        raise UNREACHABLE


def test_a_node_that_cannot_be_drained_is_not_deployed(deployment) -> None:
    backend = UndrainableBackend()
    with pytest.raises(HostUnreachable), drained(deployment, backend, 60):
        pytest.fail("the deploy must not start")
    assert backend.requests == []


def test_a_node_that_was_drained_before_stays_drained_with_a_warning(
    harness, deployment, backend, node
) -> None:
    backend.responses = [workers(harness, None, None, drain=DrainMode.FINISH)]
    with drained(deployment, backend, 60):
        pass
    assert backend.requests == []
    assert harness.events[-1] == events.Warned(
        f"{node} was drained before, and stays drained; "
        f"run `ktrdr workers undrain {node}` to give it operations again"
    )


def test_a_node_that_cannot_be_undrained_causes_a_warning(
    harness, deployment, backend, node, monkeypatch
) -> None:
    def undrain(node: str) -> None:
        raise KtrdrError("no")

    monkeypatch.setattr(backend, "undrain", undrain)
    with drained(deployment, backend, 60):
        pass
    assert harness.events[-1].message.startswith(f"{node} gets no new operations (no)")


def test_a_drain_is_recorded_before_it_begins_and_when_it_has_ended(harness, deployment, backend):
    with drained(deployment, backend, 60):
        (begun,) = harness.scripts_with('"kind":"drain"')
        assert '"outcome":"cut off"' in begun
    _, ended = harness.scripts_with('"kind":"drain"')
    assert '"outcome":"done"' in ended


def test_the_drain_of_a_deploy_that_was_cut_off_is_taken_over(harness, backend) -> None:
    killed = replace(harness.deployment.plan.entry.deploy, id="20261101-000000-0001")
    harness.host.history = [HistoryAction(killed, "drain").event()]
    harness.ready()
    deployment = harness.deployment
    deployment.prepare()
    backend.responses = [workers(harness, None, drain=DrainMode.FINISH)]
    with drained(deployment, backend, 60):
        pass
    node = deployment.plan.host.network_name
    assert backend.requests == [f"drain {node}", f"undrain {node}"]
    assert harness.warnings == []
