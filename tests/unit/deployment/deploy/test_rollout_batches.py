"""A deploy in batches to thirty nodes: a bad image stops at the canaries, or at the first batch."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import Plan, make_plan, split_plans
from ktrdr.deployment.deploy.result import DeployResult, plans_to_json
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.homelab.inventory import Inventory, add_defaults
from ktrdr.deployment.hosts.history import DeployOutcome
from ktrdr.deployment.releases.release import pack_archive
from ktrdr.errors import (
    DeploymentFailed,
    HostUnreachable,
    NotStarted,
    RolledBack,
    UsageError,
)
from ktrdr.schemas import ErrorDetail, Operation, OperationStatus, OperationType, Worker
from tests.recording_transport import Answer
from tests.unit.deployment.conftest import NOW, TAG, SimulatedHost
from tests.unit.deployment.fleet import Fleet, outcomes, registered_worker, results_by_name
from tests.unit.deployment.harness import (
    APPLY,
    GO_BACK,
    RELEASE,
    VERIFY,
    SimulatedBackend,
    earlier_entry,
    rollback_answer,
)
from tests.unit.deployment.histories import history_lines

NODES = [f"n{number:02}" for number in range(1, 31)]
OLD = "sha-0000001"
AT_ONCE, IN_SOAK = "unhealthy at once", "restarts while it is watched"


class RunningBackend(SimulatedBackend):
    """Backend at which the workers that run now are registered."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        super().__init__()
        self.plans = plans
        self.running: dict[str, str] = {}

    def workers(self) -> Sequence[Worker]:
        if self.error:
            raise self.error
        return [
            registered_worker(plan, service.worker_url).model_copy(
                update={"version": self.running.get(plan.host.address, OLD)}
            )
            for plan in self.plans
            for service in plan.expected
            if service.worker_url
        ]


class Nodes:
    """Simulated hosts that ran an older release, and of which some cannot run the new one.

    Attributes:
        fleet: The hosts, and a deploy to them.
        backend: The backend.
        fault: What the image does on bad hosts.
        bad: Names of the bad hosts.
    """

    def __init__(self, plans: list[Plan], clock: Clock) -> None:
        self.fleet = Fleet(plans, clock)
        self.fleet.backend = self.backend = RunningBackend(plans)
        self.fault, self.bad = AT_ONCE, set[str]()
        self._queries: dict[str, int] = {}
        self._lock = threading.Lock()
        for plan in plans:
            host = self.fleet.hosts[plan.host.name]
            host.containers.clear()
            host.history = history_lines(earlier_entry(plan))
            self.fleet.respond(plan, "Usage: fetch.sh", host.fetch_output())
        kept = base64.b64encode(pack_archive(plans[0].release.files)).decode()
        self.fleet.transport.answer(Answer(stdout=kept), containing="Usage: read_configuration.sh")
        self.fleet.transport.on_script = self.on_script

    def on_script(self, address: str, script: str) -> None:
        plan = next(plan for plan in self.fleet.plans if plan.host.address == address)
        with self._lock:
            if APPLY in script:
                self.backend.running[address] = TAG
                self._queries[address] = 0
            elif GO_BACK in script:
                self.backend.running[address] = OLD
                answer = rollback_answer(plan, DeployOutcome.DEPLOYED)
                self.fleet.transport.answer(answer, host=address, containing=GO_BACK)
            elif VERIFY in script:
                self._queries[address] += 1
                self.fleet.respond(plan, VERIFY, self._verify_output(plan))

    def _verify_output(self, plan: Plan) -> str:
        host, tag = SimulatedHost(plan).run_all(), self.backend.running[plan.host.address]
        for answer in host.answers.values():
            answer["version"] = tag if "registered" in answer else {"image_tag": tag}
        if tag == TAG and plan.host.name in self.bad:
            first = host.containers[plan.expected[0].name]
            if self.fault == AT_ONCE:
                first["state"]["Health"]["Status"] = "unhealthy"
            elif self._queries[plan.host.address] > 1:
                first["restarts"] = 1
        return host.verify_output()

    def deploy(self, **options: Any) -> DeployResult:
        return self.fleet.deploy(**options)

    @property
    def reached(self) -> set[str]:
        """Return the names of the hosts on which the release ran, if only for a moment."""
        return set(self.fleet.receivers_of(APPLY))

    @property
    def running(self) -> dict[str, str]:
        """Return the tag that each host of `reached` runs now, by its name."""
        names = {plan.host.address: plan.host.name for plan in self.fleet.plans}
        return {names[address]: tag for address, tag in self.backend.running.items()}


def names(*numbers: int) -> set[str]:
    return {f"workers {NODES[number - 1]}" for number in numbers}


ALL_NODES = names(*range(1, 31))


@pytest.fixture
def make_plans(release, deploy_id) -> Callable[..., list[Plan]]:
    inventory = Inventory.model_validate(
        add_defaults({"domain": "lab.test", "workers": dict.fromkeys(NODES)})
    )
    product = Homelab(inventory)

    def make(**options: Any) -> list[Plan]:
        parsed = DeployOptions(**options)
        return [make_plan(product, host, release, deploy_id, parsed) for host in product.hosts]

    return make


@pytest.fixture
def nodes(make_plans, clock) -> Nodes:
    return Nodes(make_plans(), clock)


# -------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, [30]),
        ({"serial": True}, [1] * 30),
        ({"canary": 2}, [2, 28]),
        ({"batch": "7"}, [7, 7, 7, 7, 2]),
        ({"batch": "25%"}, [8, 8, 8, 6]),
        ({"canary": 1, "batch": "50%"}, [1, 15, 14]),
        ({"canary": 40}, [30]),
        ({"batch": "1%"}, [1] * 30),
    ],
)
def test_the_core_comes_first_and_the_nodes_in_batches(make_plans, options, sizes) -> None:
    batches = split_plans(make_plans(**options))
    assert [len(batch) for batch in batches] == [1, *sizes]
    in_order = [plan.host.name for batch in batches for plan in batch]
    assert in_order == ["core", *sorted(ALL_NODES)]


def test_a_dry_run_lists_the_batches(make_plans) -> None:
    document = plans_to_json(make_plans(canary=1))
    assert document["batches"][:2] == [["core"], ["workers n01"]]


def test_a_good_release_reaches_all_nodes_and_each_batch_is_watched(nodes) -> None:
    result = nodes.deploy(canary=1, batch="50%", soak=60)
    assert result.is_good
    assert [len(batch) for batch in result.batches] == [1, 1, 15, 14]
    assert {batch["ok"] for batch in result.to_json()["batches"]} == {True}
    watched = [
        name
        for name, event in nodes.fleet.events
        if isinstance(event, events.StepFinished) and event.title == "watch for 60 s"
    ]
    assert sorted(watched) == ["core", *sorted(ALL_NODES)]
    started = [event for _, event in nodes.fleet.events if isinstance(event, events.BatchStarted)]
    assert [(event.number, event.total, len(event.hosts)) for event in started] == [
        (1, 4, 1),
        (2, 4, 1),
        (3, 4, 15),
        (4, 4, 14),
    ]
    assert nodes.fleet.unlocked_hosts() == {"core", *ALL_NODES}


def test_a_host_without_changes_is_no_canary(nodes) -> None:
    plan = nodes.fleet.plan("workers n01")
    host = SimulatedHost(plan).run_all()
    nodes.fleet.respond(plan, "Usage: fetch.sh", host.fetch_output())
    nodes.backend.running[plan.host.address] = TAG
    nodes.bad = names(2)
    result = nodes.deploy(canary=1)
    assert result.batches[1] == ("workers n02", "workers n01")
    assert nodes.reached == {"core", *names(2)}


# ---------------------------------------------------------------------------- a bad image


@pytest.mark.parametrize("fault", [AT_ONCE, IN_SOAK])
def test_an_image_that_is_bad_everywhere_reaches_only_the_canaries(nodes, fault) -> None:
    nodes.fault, nodes.bad = fault, ALL_NODES
    result = nodes.deploy(canary=2, batch="10", soak=30)
    assert nodes.reached == {"core", *names(1, 2)}
    assert nodes.running == {"core": TAG, "workers n01": OLD, "workers n02": OLD}
    by_name = results_by_name(result)
    assert isinstance(by_name["workers n01"].error, DeploymentFailed)
    assert {by_name[name].outcome for name in ALL_NODES - names(1, 2)} == {None}
    last = by_name["workers n30"].error
    assert isinstance(last, NotStarted)
    assert str(last) == (
        "workers n30 was not changed, because of a failure on workers n01, workers n02"
    )
    assert [batch["ok"] for batch in result.to_json()["batches"]] == [True, False, None, None, None]
    assert nodes.fleet.unlocked_hosts() == {"core", *ALL_NODES}


@pytest.mark.parametrize("fault", [AT_ONCE, IN_SOAK])
@pytest.mark.parametrize("bad", [{3}, {12}, {3, 7, 29}, set(range(2, 31))])
def test_an_image_that_the_canary_bears_reaches_no_more_than_the_first_batch(
    nodes, fault, bad
) -> None:
    nodes.fault, nodes.bad = fault, names(*bad)
    nodes.deploy(canary=1, batch="12", soak=30)
    assert nodes.reached == {"core", *names(*range(1, 14))}
    assert {name for name, tag in nodes.running.items() if tag == OLD} == (
        nodes.bad & names(*range(1, 14))
    )


def test_the_error_says_what_happened_while_the_host_was_watched(nodes) -> None:
    nodes.fault, nodes.bad = IN_SOAK, names(1)
    error = results_by_name(nodes.deploy(canary=1))["workers n01"].error
    assert str(error) == (
        "workers n01 on workers-n01.lab.test did not stay healthy: backtest-worker-1 restarted"
    )


def operation(kind: str | None) -> Operation:
    """Return an operation that ended after the deploy, with an error of a kind or with success."""
    return Operation(
        operation_id="op_backtest_20261123_120100_1a2b3c4d",
        operation_type=OperationType.BACKTEST,
        status=OperationStatus.FAILED if kind else OperationStatus.COMPLETED,
        parameters={},
        progress=1.0,
        progress_message=None,
        worker_id=None,
        attempt=1,
        submitted_by="ada",
        created_at=NOW,
        started_at=NOW,
        finished_at=NOW.replace(year=2027),
        cancel_requested_at=None,
        parent_id=None,
        error=ErrorDetail(kind=kind, message="no module named x") if kind else None,
        trace_id=None,
    )


def test_a_worker_on_which_most_operations_fail_is_bad(nodes) -> None:
    plan = nodes.fleet.plan("workers n01")
    url = plan.expected[0].worker_url
    nodes.backend.ended[f"w-{url}"] = [
        operation("internal"),
        operation("internal"),
        operation(None),
    ]
    result = nodes.deploy(canary=1)
    assert nodes.reached == {"core", *names(1)}
    assert str(results_by_name(result)["workers n01"].error).endswith(
        "backtest-worker-1 failed 2 of 3 operations, for example with: no module named x"
    )


@pytest.mark.parametrize(
    "kinds", [("internal", None), ("invalid-parameters",), ("invalid-parameters", "not-found")]
)
def test_operations_that_fail_by_their_own_fault_or_seldom_stop_nothing(nodes, kinds) -> None:
    url = nodes.fleet.plan("workers n01").expected[0].worker_url
    nodes.backend.ended[f"w-{url}"] = [operation(kind) for kind in kinds]
    assert nodes.deploy(canary=1).is_good


def test_a_backend_that_is_away_while_hosts_are_watched_is_a_warning(nodes) -> None:
    nodes.backend.error = HostUnreachable("the backend does not respond")
    result = nodes.deploy(canary=1)
    assert result.is_good
    assert "could not ask the backend" in results_by_name(result)["workers n01"].warnings[0]


# -------------------------------------------------------------------- what happens to the others


def test_by_default_hosts_that_are_deployed_keep_the_release(nodes) -> None:
    nodes.bad = names(5)
    result = nodes.deploy(batch="5")
    assert nodes.running == {
        "core": TAG,
        **dict.fromkeys(names(1, 2, 3, 4), TAG),
        "workers n05": OLD,
    }
    assert outcomes(result)["workers n01"] is DeployOutcome.DEPLOYED


@pytest.mark.parametrize("batch", ["", "5"])
def test_on_request_all_hosts_go_back_if_one_fails(nodes, batch) -> None:
    nodes.bad = names(7)
    result = nodes.deploy(batch=batch, soak=0, on_failure="rollback")
    reached = range(1, 31) if not batch else range(1, 11)
    assert nodes.reached == {"core", *names(*reached)}
    assert set(nodes.running.values()) == {OLD}
    by_name = results_by_name(result)
    assert isinstance(by_name["workers n07"].error, DeploymentFailed)
    back = by_name["workers n01"]
    assert isinstance(back.error, RolledBack)
    assert str(back.error) == "workers n01 was rolled back, because of a failure on workers n07"
    assert back.outcome is DeployOutcome.FAILED
    assert back.restored
    assert back.restored.tag == OLD
    assert result.failed[0].plan.host.name == "workers n07"
    assert nodes.fleet.receivers_of(GO_BACK)[-1] == "core", "the core goes back last"
    assert nodes.fleet.unlocked_hosts() == {"core", *ALL_NODES}


def test_the_lock_of_a_deployed_host_is_held_until_all_have_ended(nodes) -> None:
    nodes.deploy(batch="10", soak=0, on_failure="rollback")
    scripts = [run.script.reveal() for run in nodes.fleet.transport.runs]
    applied = [number for number, script in enumerate(scripts) if APPLY in script]
    released = [number for number, script in enumerate(scripts) if RELEASE in script]
    assert max(applied) < min(released)


def test_a_host_without_an_earlier_release_stays_deployed_with_a_warning(nodes) -> None:
    plan = nodes.fleet.plan("workers n01")
    nodes.fleet.respond(plan, "Usage: fetch.sh", SimulatedHost(plan).fetch_output())
    nodes.bad = names(2)
    result = results_by_name(nodes.deploy(on_failure="rollback"))["workers n01"]
    assert (result.outcome, result.error) == (DeployOutcome.DEPLOYED, None)
    assert "there is no earlier release to roll back to" in result.warnings[0]


def test_going_back_and_no_rollback_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="contradicts"):
        DeployOptions(on_failure="rollback", rollback=False)
