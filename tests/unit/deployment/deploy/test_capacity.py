"""Memory and processors of a node against the limits of its services."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import make_plan
from ktrdr.deployment.deploy.preflight import check_host
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.homelab.hosts import all_hosts
from ktrdr.deployment.homelab.inventory import Inventory, add_defaults
from ktrdr.deployment.hosts.problems import CheckResult
from tests.unit.deployment.conftest import NOW, SimulatedHost

NOT_CHECKED = CheckResult("not checked")
Check = Callable[..., CheckResult]


@pytest.fixture
def check(release, deploy_id, root: Path) -> Check:
    """Check a node with values of its entry, and some memory (GiB) and processors."""
    content = (root / "docker-compose.workers.yml").read_bytes()
    files = {**release.files, "docker-compose.workers.yml": content}

    def check_node(
        values: dict[str, object],
        *,
        host: int = 1,
        scale: int | None = None,
        **facts: float | str,
    ) -> CheckResult:
        inventory = Inventory.model_validate(add_defaults({"workers": {"B": values}}))
        hosts = all_hosts(inventory)
        plan = make_plan(
            Homelab(inventory),
            hosts[host],
            replace(release, files=files),
            deploy_id,
            DeployOptions(scale=scale),
        )
        given = {"memory_gib": 64.0, "processors": 16, **facts}
        gib = given.pop("memory_gib")
        memory = str(int(float(gib) * 1024**2)) if isinstance(gib, float | int) else gib
        words = {"memory_kb": memory, **{name: str(value) for name, value in given.items()}}
        results = check_host(plan, SimulatedHost(plan).facts | words, now=NOW)
        return next((each for each in results if each.name == "capacity"), NOT_CHECKED)

    return check_node


def test_a_node_that_is_large_enough_shows_what_it_has(check: Check) -> None:
    result = check({"backtest": 2, "training": 1})
    assert result == CheckResult("capacity", "11 of 64.0 GiB of memory, 4 of 16 processors")


def test_a_node_with_too_little_memory_is_refused_with_the_sum(check: Check) -> None:
    result = check({"backtest": 3, "training": 1}, memory_gib=7.8)
    (problem,) = result.problems
    assert problem.message == (
        "its services may use 3 × 3 + 1 × 5 = 14 GiB of memory, but it has 7.8"
    )
    assert "limits in the inventory" in problem.hint
    assert problem.exit_code == 6


def test_limits_of_the_inventory_count(check: Check) -> None:
    small = {"backtest": 3, "training": 0, "backtest_memory": "512m", "backtest_cpus": 0.5}
    result = check(small, memory_gib=2, processors=1)
    assert result == CheckResult("capacity", "1.5 of 2.0 GiB of memory, 1.5 of 1 processors")
    assert check({"backtest_memory": "60g"}, memory_gib=32).problems


def test_the_workers_of_this_deploy_count(check: Check) -> None:
    assert check({}, memory_gib=8).problems == ()
    (problem,) = check({}, scale=2, memory_gib=8).problems
    assert "2 × 3 + 2 × 5 = 16 GiB" in problem.message


def test_a_machine_may_show_less_memory_than_it_was_bought_with(check: Check) -> None:
    assert check({}, memory_gib=7.6).problems == (), "a machine with 8 GiB runs one of each type"
    assert check({}, memory_gib=7.1).problems


def test_processors_are_shared_but_no_worker_may_have_more_than_all(check: Check) -> None:
    assert check({"scale": 3}, processors=2).problems == ()
    (problem,) = check({}, processors=1).problems
    assert problem.message == "training-worker-1 may use 2 processors, but it has 1"


@pytest.mark.parametrize("facts", [{"processors": ""}, {"memory_gib": ""}, {"memory_gib": "x"}])
def test_unknown_facts_are_no_problem(check: Check, facts: dict[str, str]) -> None:
    assert check({"scale": 3}, **facts) is NOT_CHECKED


def test_the_core_is_not_concerned(check: Check) -> None:
    assert check({}, host=0, memory_gib=1) is NOT_CHECKED
