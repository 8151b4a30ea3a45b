"""When a stack is well, may yet be, and never will."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ktrdr.deployment.hosts.containers import parse_clock, parse_containers, parse_reports
from ktrdr.deployment.hosts.health import judge, missing_from
from ktrdr.deployment.scripts.sections import split
from ktrdr.schemas import Worker


@pytest.fixture
def troubles(planned, host_of, clock):
    """What is found when one service is different from a healthy one."""

    def find(target="core", service=None, *, restarts_before=None, answer=None, **changes):
        plan = planned(target)
        host = host_of(plan).run_all()
        if service:
            host.containers[service] |= changes
            if answer is not None:
                host.answers[service] = answer
        found = split(host.verify_output())
        judged = judge(
            plan.expected,
            parse_containers(found["containers"]),
            parse_reports(found),
            tag=plan.release.tag,
            restarts_before=restarts_before or {},
            now=parse_clock(found["clock"]) or pytest.fail("the clock is missing"),
        )
        return [(trouble.service, trouble.reason, trouble.is_fatal) for trouble in judged]

    return find


def state(status="running", health=None, **more):
    extra = {"Health": {"Status": health, "Log": more.pop("log", [])}} if health else {}
    return {"Status": status, "StartedAt": "2026-11-23T11:00:00Z", "ExitCode": 0, **extra, **more}


def test_healthy_services_that_say_their_version_are_well(troubles):
    assert troubles("core") == []
    assert troubles("workers") == []


@pytest.mark.parametrize(
    ("changed", "reason", "final"),
    [
        (state(health="starting"), "is starting", False),
        (state("created"), "is created", False),
        (state("restarting"), "is restarting", False),
        (state("exited", ExitCode=3), "has ended with exit code 3", True),
        (state("dead"), "has ended with exit code 0", True),
        (state(health="unhealthy"), "runs but fails its health check", True),
        (
            state(health="unhealthy", log=[{"Output": "first"}, {"Output": "port 8000\n closed"}]),
            "runs but fails its health check: port 8000 closed",
            True,
        ),
        (state(StartedAt="2026-11-23T11:59:59Z"), "has just started", False),
    ],
)
def test_each_state_of_a_container_has_its_words(troubles, changed, reason, final):
    assert troubles("core", "db", state=changed) == [("db", reason, final)]


def test_a_service_without_a_health_check_is_well_once_it_has_run_a_while(troubles):
    assert troubles("core", "prometheus", state=state()) == []


def test_a_missing_container_is_final(planned, clock):
    found = judge(
        planned().expected, {}, {}, tag="t", restarts_before={}, now=clock.now() + timedelta(0)
    )

    assert {(trouble.reason, trouble.is_fatal) for trouble in found} == {("has no container", True)}


def test_a_crash_loop_is_recognised_by_restarts_since_the_deploy_began(troubles):
    looping = {"restarts": 7, "state": state("restarting", ExitCode=1)}

    assert troubles("core", "backend", **looping) == [
        ("backend", "starts and ends again and again (last with exit code 1)", True)
    ]
    assert troubles("core", "backend", restarts_before={"id-of-backend": 6}, **looping) == [
        ("backend", "is restarting", False)
    ]


@pytest.mark.parametrize(
    ("answer", "reason", "final"),
    [
        ({"status": "ok", "version": {"image_tag": "old"}}, "version old, not sha-abc1234", True),
        ({"status": "ok"}, "version None, not sha-abc1234", True),
        (
            {
                "status": "degraded",
                "version": {"image_tag": "sha-abc1234"},
                "database": "unavailable",
            },
            "says that the database is unavailable",
            False,
        ),
    ],
)
def test_the_backend_has_to_be_the_deployed_version_with_its_database(
    troubles, answer, reason, final
):
    ((service, said, was_final),) = troubles("core", "backend", answer=answer)

    assert (service, was_final) == ("backend", final)
    assert reason in said


@pytest.mark.parametrize(
    ("answer", "reason", "final"),
    [
        ({"version": "sha-abc1234", "registered": False}, "has not registered yet", False),
        (
            {"version": "sha-abc1234", "registered": False, "registration_error": "401: no"},
            "could not register: 401: no",
            False,
        ),
        ({"version": "old", "registered": True}, "is version old, not sha-abc1234", True),
    ],
)
def test_a_worker_has_to_be_registered_in_the_deployed_version(troubles, answer, reason, final):
    ((_, said, was_final),) = troubles("workers", "backtest-worker-1", answer=answer)

    assert (was_final, reason in said) == (final, True)


def test_a_program_of_ours_that_does_not_answer_is_waited_for(planned, host_of, clock):
    plan = planned()
    host = host_of(plan).run_all()
    host.answers = {}
    found = split(host.verify_output())

    (trouble,) = judge(
        plan.expected,
        parse_containers(found["containers"]),
        parse_reports(found),
        tag=plan.release.tag,
        restarts_before={},
        now=clock.now(),
    )

    assert (trouble.service, trouble.reason, trouble.is_fatal) == (
        "backend",
        "does not answer yet",
        False,
    )


def worker(url, **changes):
    return Worker(
        **{
            "worker_id": "w",
            "worker_type": "backtesting",
            "endpoint_url": url,
            "status": "available",
            "current_operation_id": None,
            "capabilities": {},
            "version": "sha-abc1234",
            "node": "workers-b.lab.test",
            "registered_at": "2026-11-23T12:00:00Z",
            "last_healthy_at": None,
            "health_check_failures": 0,
            **changes,
        }
    )


def test_workers_are_found_in_the_directory_by_address_version_and_state(planned):
    wanted, tag = planned("workers").expected, "sha-abc1234"
    one, other = "http://workers-b.lab.test:5003", "http://workers-b.lab.test:5005"

    def missing(*directory):
        return [trouble.service for trouble in missing_from(directory, wanted, tag)]

    assert missing(worker(f"{one}/"), worker(other, status="busy")) == []
    assert missing(worker(one), worker(other, version="old")) == ["training-worker-1"]
    assert missing(worker(one, status="temporarily_unavailable"), worker(other)) == [
        "backtest-worker-1"
    ]
    assert missing() == ["backtest-worker-1", "training-worker-1"]
