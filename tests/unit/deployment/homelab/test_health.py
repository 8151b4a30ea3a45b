"""Health of the backend and the workers, from their reports and the backend's list of workers."""

from __future__ import annotations

from typing import Any

import pytest

from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.homelab.health import unregistered_workers
from ktrdr.deployment.hosts.containers import parse_clock, parse_containers, parse_reports
from ktrdr.deployment.hosts.health import HealthProblem, find_problems
from ktrdr.deployment.scripts.sections import split
from ktrdr.errors import HostUnreachable
from ktrdr.schemas import Worker
from ktrdr.schemas.workers import WorkerStatus
from tests.unit.deployment.conftest import TAG, SimulatedHost
from tests.unit.deployment.fleet import registered_worker
from tests.unit.deployment.harness import SimulatedBackend


@pytest.fixture
def problems(planned):
    """Return the problems of a host whose services are healthy, except for one report or none."""

    def find(target: str = "core", service: str = "", **report: Any) -> list[HealthProblem]:
        plan = planned(target)
        host = SimulatedHost(plan).run_all()
        if service:
            del host.answers[service]
        if report:
            host.answers[service] = report
        sections = split(host.verify_output())
        now = parse_clock(sections["clock"])
        assert now
        found = find_problems(
            plan.expected,
            parse_containers(sections["containers"]),
            parse_reports(sections),
            check_report=plan.product.check_report,
            tag=plan.release.tag,
            restarts_before={},
            now=now,
        )
        return list(found)

    return find


def test_services_that_report_the_deployed_version_are_healthy(problems) -> None:
    assert problems("core") == []
    assert problems("workers") == []


@pytest.mark.parametrize(
    ("report", "reason", "is_fatal"),
    [
        (
            {"status": "ok", "version": {"image_tag": "old"}},
            "reports version old, not sha-abc1234",
            True,
        ),
        ({"status": "ok"}, "reports version None, not sha-abc1234", True),
        (
            {"status": "degraded", "version": {"image_tag": TAG}, "database": "unavailable"},
            "reports that the database is unavailable",
            False,
        ),
        (
            {
                "status": "degraded",
                "version": {"image_tag": TAG},
                "database": "ok",
                "problem": {"message": f"the share {'x' * 1000}"},
            },
            f"is not ready: the share {'x' * 490}",
            False,
        ),
    ],
)
def test_the_backend_must_report_the_deployed_version_and_its_database(
    problems, report, reason, is_fatal
) -> None:
    assert problems("core", "backend", **report) == [HealthProblem("backend", reason, is_fatal)]


@pytest.mark.parametrize(
    ("report", "reason", "is_fatal"),
    [
        ({"version": TAG, "registered": False}, "has not registered yet", False),
        (
            {"version": TAG, "registered": False, "registration_error": "401: no"},
            "could not register: 401: no",
            False,
        ),
        (
            {
                "version": TAG,
                "registered": False,
                "registration_error": "401: no",
                "problem": {"message": "401: no"},
            },
            "could not register: 401: no",
            False,
        ),
        (
            {"version": TAG, "registered": True, "problem": {"message": "no share"}},
            "is not ready: no share",
            False,
        ),
        (
            {"version": "old", "registered": True, "problem": {"message": "no share"}},
            "reports version old, not sha-abc1234",
            True,
        ),
        ({"version": TAG, "registered": False, "problem": "?"}, "has not registered yet", False),
        (
            {"version": "old", "registered": True},
            "reports version old, not sha-abc1234",
            True,
        ),
    ],
)
def test_a_worker_must_report_the_deployed_version_and_its_registration(
    problems, report, reason, is_fatal
) -> None:
    name = "backtest-worker-1"
    assert problems("workers", name, **report) == [HealthProblem(name, reason, is_fatal)]


def test_a_program_without_a_report_is_waited_for(problems) -> None:
    assert problems("core", "backend") == [HealthProblem("backend", "does not respond yet")]


# ------------------------------------------------------------------ the backend's list of workers

BACKTEST, TRAINING = "http://workers-b.lab.test:5003", "http://workers-b.lab.test:5005"


@pytest.fixture
def plan(planned) -> Plan:
    plan: Plan = planned("workers")
    return plan


def listed(plan: Plan, url: str, **changes: object) -> Worker:
    return registered_worker(plan, url).model_copy(update=changes)


def test_workers_are_registered_by_address_version_and_status(plan) -> None:
    def unregistered(*workers: Worker) -> list[str]:
        problems = unregistered_workers(workers, plan.expected, TAG)
        return [problem.service for problem in problems]

    backtest, training = listed(plan, BACKTEST), listed(plan, TRAINING)
    with_slash = listed(plan, f"{BACKTEST}/")
    assert unregistered(with_slash, listed(plan, TRAINING, status=WorkerStatus.BUSY)) == []
    old = listed(plan, TRAINING, version="old")
    assert unregistered(backtest, old) == ["training-worker-1"]
    unavailable = listed(plan, BACKTEST, status=WorkerStatus.TEMPORARILY_UNAVAILABLE)
    assert unregistered(unavailable, training) == ["backtest-worker-1"]
    assert unregistered() == ["backtest-worker-1", "training-worker-1"]
    unfit = unavailable.model_copy(update={"problem": "no share"})
    (problem,) = unregistered_workers([unfit, training], plan.expected, TAG)
    assert problem.reason == "is not ready: no share"


def test_the_backend_is_asked_only_about_plans_with_workers(planned, product, plan) -> None:
    backend = SimulatedBackend()
    assert [problem.reason for problem in product.unfit_workers(plan, backend, None)] == [
        "is not registered at the backend with this version yet"
    ] * 2
    backend.error = HostUnreachable("the backend does not respond")
    with pytest.raises(HostUnreachable):
        product.unfit_workers(plan, backend, None)
    assert product.unfit_workers(planned("core"), backend, None) == ()
