"""Health of services: which states are problems, and which of them waiting cannot solve."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ktrdr.deployment.hosts.health import SETTLED_AFTER_S, ExpectedService, HealthProblem
from ktrdr.deployment.hosts.health import find_problems as find_all_problems
from tests.unit.deployment.conftest import NOW, TAG, running_container

DB = ExpectedService("db", "timescale:2", reports_version=False, worker_url=None)
BACKEND = ExpectedService("backend", f"ours:{TAG}", reports_version=True, worker_url=None)


def accept(service: ExpectedService, report: object, tag: str) -> None:
    """Accept every health report."""


def find_problems(*, restarts_before: int = 0, **changes: Any) -> list[tuple[str, bool]]:
    """Return the problems of the database, without its name."""
    problems = find_all_problems(
        [DB],
        {"db": running_container("db", **changes)},
        {},
        check_report=accept,
        tag=TAG,
        restarts_before={"id-of-db": restarts_before},
        now=NOW,
    )
    assert {problem.service for problem in problems} <= {"db"}
    return [(problem.reason, problem.is_fatal) for problem in problems]


def test_a_healthy_container_is_no_problem() -> None:
    assert find_problems() == []


@pytest.mark.parametrize(
    ("changes", "reason", "is_fatal"),
    [
        ({"health": "starting"}, "is starting", False),
        ({"status": "created"}, "is created", False),
        ({"status": "restarting"}, "is restarting", False),
        ({"status": "exited", "exit_code": 3}, "exited with code 3", True),
        ({"status": "dead"}, "exited with code 0", True),
        ({"health": "unhealthy"}, "fails its health check", True),
        (
            {"health": "unhealthy", "health_output": "port 8000 closed"},
            "fails its health check: port 8000 closed",
            True,
        ),
    ],
)
def test_each_state_of_a_container_has_its_reason(changes, reason, is_fatal) -> None:
    assert find_problems(**changes) == [(reason, is_fatal)]


def test_a_service_without_a_health_check_is_healthy_after_running_for_a_while() -> None:
    settled = NOW - timedelta(seconds=SETTLED_AFTER_S)
    assert find_problems(health="", started_at=settled) == []
    started = settled + timedelta(seconds=1)
    assert find_problems(health="", started_at=started) == [("has just started", False)]


def test_a_missing_container_is_a_fatal_problem() -> None:
    problems = find_all_problems(
        [DB, BACKEND], {}, {}, check_report=accept, tag=TAG, restarts_before={}, now=NOW
    )
    assert problems == (
        HealthProblem("db", "has no container", is_fatal=True),
        HealthProblem("backend", "has no container", is_fatal=True),
    )


def test_only_restarts_since_the_deploy_began_are_a_crash_loop() -> None:
    looping: dict[str, Any] = {"restarts": 7, "status": "restarting", "exit_code": 1}
    assert find_problems(**looping) == [("keeps restarting (last exit code 1)", True)]
    assert find_problems(**{**looping, "status": "running", "exit_code": 0}) == [
        ("keeps restarting", True)
    ]
    assert find_problems(restarts_before=6, **looping) == [("is restarting", False)]


def test_only_own_programs_with_a_good_container_are_judged_by_their_report() -> None:
    judged = []

    def reject(service: ExpectedService, report: Any, tag: str) -> HealthProblem:
        judged.append((service.name, report, tag))
        return HealthProblem(service.name, "reports something else")

    def problems(health: str) -> list[str]:
        backend = running_container("backend", health=health)
        found = find_all_problems(
            [DB, BACKEND],
            {"db": running_container("db"), "backend": backend},
            {"backend": {"status": "ok"}, "db": {"status": "ok"}},
            check_report=reject,
            tag=TAG,
            restarts_before={},
            now=NOW,
        )
        return [f"{problem.service} {problem.reason}" for problem in found]

    assert problems("starting") == ["backend is starting"]
    assert judged == []
    assert problems("healthy") == ["backend reports something else"]
    assert judged == [("backend", {"status": "ok"}, TAG)]


def test_an_own_service_that_says_why_it_is_unhealthy_is_waited_for() -> None:
    said = {"problem": {"message": "no share"}}

    def problems(health: str, answer: object = said, **changes: Any) -> list[tuple[str, bool]]:
        backend = running_container(
            "backend",
            health=health,
            health_report=said,
            is_unfit=True,
            health_output="no share",
            **changes,
        )

        def check(service: ExpectedService, report: Any, _tag: str) -> HealthProblem | None:
            if "problem" not in report:
                return None
            return HealthProblem(service.name, f"is not ready: {report['problem']['message']}")

        found = find_all_problems(
            [BACKEND],
            {"backend": backend},
            {"backend": answer},  # type: ignore[dict-item]
            check_report=check,
            tag=TAG,
            restarts_before={},
            now=NOW,
        )
        return [(problem.reason, problem.is_fatal) for problem in found]

    for health in ("starting", "unhealthy", "healthy"):
        assert problems(health) == [("is not ready: no share", False)]
    # Its own answer is more recent than Docker's last health check.
    assert problems("healthy", {}) == []
    assert problems("unhealthy", {}) == [("is not ready: no share", False)]
    assert problems("unhealthy", status="exited") == [("exited with code 0", True)]
