"""Workers finish what they are at before they are replaced, and get work again afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy.drain import drained
from ktrdr.errors import HostUnreachable, KtrdrError
from ktrdr.schemas import DrainMode, Worker
from tests.unit.deployment.fleet import Drains, worker
from tests.unit.deployment.watched import Watched

UNREACHABLE = HostUnreachable("the backend does not answer")


@pytest.fixture
def watch(planned, clock) -> Watched:
    return Watched(planned("workers"), clock)


@pytest.fixture
def drains() -> Drains:
    return Drains()


def workers(watch: Watched, *operations: str | None, **more: object) -> list[Worker]:
    return [
        worker(watch.runner.plan, f"http://{n}", operation).model_copy(update=more)
        for n, operation in enumerate(operations)
    ]


def details(watch: Watched) -> list[str]:
    return [event.detail for event in watch.events if isinstance(event, events.StepFinished)]


def test_the_node_gets_no_work_until_the_end(watch, drains) -> None:
    host = watch.runner.plan.host.address
    with drained(drains, watch.runner, 60):
        assert drains.asked == [f"drain {host}"]
    assert drains.asked == [f"drain {host}", f"undrain {host}"]


def test_what_runs_is_waited_for(watch, drains) -> None:
    busy = workers(watch, "op-1", "op-2")
    drains.known = [busy, busy, workers(watch, None, "op-2"), workers(watch, None, None)]
    with drained(drains, watch.runner, 60):
        assert watch.runner.clock.monotonic() == 2.0
    assert events.Waiting("2 at work: op-1, op-2") in watch.events
    assert events.Waiting("1 at work: op-2") in watch.events
    assert details(watch) == ["none at work"]


def test_what_others_do_is_not_waited_for(watch, drains) -> None:
    drains.known = [workers(watch, "op-1", node="elsewhere")]
    with drained(drains, watch.runner, 60):
        assert watch.runner.clock.monotonic() == 0.0


def test_patience_ends(watch, drains) -> None:
    drains.known = [workers(watch, "op-1")]
    with drained(drains, watch.runner, 5):
        assert watch.runner.clock.monotonic() == 5.0
    assert details(watch) == ["1 still at work hand over"]


def test_whoever_wants_to_stop_is_heard(watch, drains) -> None:
    drains.known = [workers(watch, "op-1")]
    watch.runner.stopping.set()
    with drained(drains, watch.runner, 3600):
        assert watch.runner.clock.monotonic() == 0.0
    assert drains.asked[-1].startswith("undrain")


def test_a_node_gets_work_again_when_the_deploy_fails(watch, drains) -> None:
    with pytest.raises(ZeroDivisionError), drained(drains, watch.runner, 60):
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


def test_a_node_gets_work_again_when_the_backend_is_lost_meanwhile(watch) -> None:
    drains = Losing(2, workers(watch, "op-1"))
    with pytest.raises(HostUnreachable), drained(drains, watch.runner, 60):
        pytest.fail("it must not begin")
    assert drains.asked[-1].startswith("undrain")
    assert isinstance(watch.events[-1], events.StepFailed)


def test_a_node_that_cannot_be_drained_is_left_as_it_was(watch, drains) -> None:
    drains.error = UNREACHABLE
    with pytest.raises(HostUnreachable), drained(drains, watch.runner, 60):
        pytest.fail("it must not begin")
    assert drains.asked == []


def test_a_node_that_was_drained_before_stays_so_and_that_is_said(watch, drains) -> None:
    drains.known = [workers(watch, None, None, drain=DrainMode.FINISH)]
    with drained(drains, watch.runner, 60):
        pass
    assert drains.asked == []
    host = watch.runner.plan.host.address
    assert watch.events[-1] == events.Warned(
        f"{host} was drained before, and stays so; `ktrdr workers undrain {host}` gives it work "
        "again"
    )


def test_a_node_that_stays_without_work_is_told(watch, drains, monkeypatch) -> None:
    def undrain(node: str) -> None:
        raise KtrdrError("no")

    monkeypatch.setattr(drains, "undrain", undrain)
    with drained(drains, watch.runner, 60):
        pass
    assert "gets no new work (no)" in watch.events[-1].message
