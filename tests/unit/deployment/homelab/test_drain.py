"""Workers finish what they are at before they are replaced, and get work again afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from ktrdr.deployment.deploy.drain import drained

from ktrdr.deployment.deploy import events
from ktrdr.errors import HostUnreachable, KtrdrError
from ktrdr.schemas import DrainMode, Worker
from tests.unit.deployment.fleet import Drains, worker
from tests.unit.deployment.harness import DeploymentHarness

UNREACHABLE = HostUnreachable("the backend does not answer")


@pytest.fixture
def harness(planned, clock) -> DeploymentHarness:
    return DeploymentHarness(planned("workers"), clock)


@pytest.fixture
def drains() -> Drains:
    return Drains()


def workers(harness: DeploymentHarness, *operations: str | None, **more: object) -> list[Worker]:
    return [
        worker(harness.deployment.plan, f"http://{n}", operation).model_copy(update=more)
        for n, operation in enumerate(operations)
    ]


def details(harness: DeploymentHarness) -> list[str]:
    return [event.detail for event in harness.events if isinstance(event, events.StepFinished)]


def test_the_node_gets_no_work_until_the_end(harness, drains) -> None:
    host = harness.deployment.plan.host.address
    with drained(drains, harness.deployment, 60):
        assert drains.asked == [f"drain {host}"]
    assert drains.asked == [f"drain {host}", f"undrain {host}"]


def test_what_runs_is_waited_for(harness, drains) -> None:
    busy = workers(harness, "op-1", "op-2")
    drains.known = [busy, busy, workers(harness, None, "op-2"), workers(harness, None, None)]
    with drained(drains, harness.deployment, 60):
        assert harness.deployment.clock.monotonic() == 2.0
    assert events.Waiting("2 at work: op-1, op-2") in harness.events
    assert events.Waiting("1 at work: op-2") in harness.events
    assert details(harness) == ["none at work"]


def test_what_others_do_is_not_waited_for(harness, drains) -> None:
    drains.known = [workers(harness, "op-1", node="elsewhere")]
    with drained(drains, harness.deployment, 60):
        assert harness.deployment.clock.monotonic() == 0.0


def test_patience_ends(harness, drains) -> None:
    drains.known = [workers(harness, "op-1")]
    with drained(drains, harness.deployment, 5):
        assert harness.deployment.clock.monotonic() == 5.0
    assert details(harness) == ["1 still at work hand over"]


def test_whoever_wants_to_stop_is_heard(harness, drains) -> None:
    drains.known = [workers(harness, "op-1")]
    harness.deployment.stopping.set()
    with drained(drains, harness.deployment, 3600):
        assert harness.deployment.clock.monotonic() == 0.0
    assert drains.asked[-1].startswith("undrain")


def test_a_node_gets_work_again_when_the_deploy_fails(harness, drains) -> None:
    with pytest.raises(ZeroDivisionError), drained(drains, harness.deployment, 60):
        raise ZeroDivisionError
    assert drains.asked[-1].startswith("undrain")


class Losing(Drains):
    """A backend that is lost after so many questions."""

    def __init__(self, answers: int, busy: Sequence[Worker]) -> None:
        super().__init__()
        self.left, self.busy = answers, busy

    def workers(self) -> Sequence[Worker]:
        if not self.left:
            raise UNREACHABLE
        self.left -= 1
        return self.busy


def test_a_node_gets_work_again_when_the_backend_is_lost_meanwhile(harness) -> None:
    drains = Losing(2, workers(harness, "op-1"))
    with pytest.raises(HostUnreachable), drained(drains, harness.deployment, 60):
        pytest.fail("it must not begin")
    assert drains.asked[-1].startswith("undrain")
    assert isinstance(harness.events[-1], events.StepFailed)


def test_a_node_that_cannot_be_drained_is_left_as_it_was(harness, drains) -> None:
    drains.error = UNREACHABLE
    with pytest.raises(HostUnreachable), drained(drains, harness.deployment, 60):
        pytest.fail("it must not begin")
    assert drains.asked == []


def test_a_node_that_was_drained_before_stays_so_and_that_is_said(harness, drains) -> None:
    drains.known = [workers(harness, None, None, drain=DrainMode.FINISH)]
    with drained(drains, harness.deployment, 60):
        pass
    assert drains.asked == []
    host = harness.deployment.plan.host.address
    assert harness.events[-1] == events.Warned(
        f"{host} was drained before, and stays so; `ktrdr workers undrain {host}` gives it work "
        "again"
    )


def test_a_node_that_stays_without_work_is_told(harness, drains, monkeypatch) -> None:
    def undrain(node: str) -> None:
        raise KtrdrError("no")

    monkeypatch.setattr(drains, "undrain", undrain)
    with drained(drains, harness.deployment, 60):
        pass
    assert "gets no new work (no)" in harness.events[-1].message
