"""Containers, images and health reports, parsed from what Docker prints."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from ktrdr.deployment.hosts.containers import (
    known_contract_migrations,
    parse_clock,
    parse_containers,
    parse_reports,
)


def line(
    service: str = "db",
    container_id: str = "1",
    status: str = "running",
    started: str = "",
    **changes: Any,
) -> str:
    """Return the line that describes a container."""
    return json.dumps(
        {
            "id": container_id,
            "image": "sha256:by-engine",
            "name": "img:1",
            "labels": {"com.docker.compose.service": service},
            "state": {"Status": status, "StartedAt": started, "ExitCode": 0},
            "restarts": 0,
            **changes,
        }
    )


def test_the_running_container_of_a_service_counts():
    lines = [line(container_id="old", status="exited"), line(container_id="new")]

    assert parse_containers(lines)["db"].id == "new"
    assert parse_containers(reversed(lines))["db"].id == "new"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T17:34:25.96318312Z", datetime(2026, 11, 23, 17, 34, 25, 963183, UTC)),
        ("2026-11-23T17:34:25.9Z", datetime(2026, 11, 23, 17, 34, 25, 900000, UTC)),
        ("2026-11-23T17:34:25Z", datetime(2026, 11, 23, 17, 34, 25, 0, UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_dockers_times_are_parsed(text, expected):
    assert parse_containers([line(started=text)])["db"].started_at == expected


def test_the_image_is_the_one_that_compose_recorded():
    labels = {"com.docker.compose.service": "db", "com.docker.compose.image": "sha256:by-compose"}

    assert parse_containers([line(labels=labels)])["db"].image_id == "sha256:by-compose"
    assert parse_containers([line()])["db"].image_id == "sha256:by-engine"


def test_a_container_without_a_health_check_has_no_health():
    state = {"Status": "running", "StartedAt": "", "Health": {"Status": "none"}}

    assert parse_containers([line(state=state)])["db"].health == ""


def test_the_health_output_is_that_of_the_last_check_on_one_line():
    log = [{"Output": "first"}, {"Output": "port 8000\n closed"}]
    state = {"Status": "running", "Health": {"Status": "unhealthy", "Log": log}}
    container = parse_containers([line(state=state)])["db"]
    assert (container.health, container.health_output) == ("unhealthy", "port 8000 closed")


def test_lines_without_an_object_are_skipped():
    assert parse_containers(["", "template parsing error", "[]", line()]).keys() == {"db"}


def test_reports_are_found_by_service_and_unreadable_ones_skipped():
    lines = ['a {"x": 1}', "b ", "c not json", "d 3"]
    assert parse_reports({"answers": lines}) == {"a": {"x": 1}}


def test_the_last_health_check_counts_for_a_service_that_was_not_asked():
    def checked(service, output, status="healthy"):
        log = [{"Output": "{}"}, {"Output": output}]
        return line(service, state={"Status": "running", "Health": {"Status": status, "Log": log}})

    sections = {
        "containers": [
            checked("asked", '{"x": 1}\n'),
            checked("unasked", '{"x": 2}\n'),
            checked("ill", '{"x": 3}\nno share\n', status="unhealthy"),
            checked("silent", ""),
        ],
        "answers": ['asked {"x": 4}'],
    }

    assert parse_reports(sections) == {"asked": {"x": 4}, "unasked": {"x": 2}, "ill": {"x": 3}}


def test_the_reason_of_a_service_that_cannot_work_follows_its_document():
    def parse(output, code):
        log = [{"Output": output, "ExitCode": code}]
        state = {"Status": "running", "Health": {"Status": "starting", "Log": log}}
        container = parse_containers([line(state=state)])["db"]
        return container.is_unfit, container.health_output

    assert parse('{"x": 1}\nno share\n', 1) == (True, "no share")
    assert parse('{"x": 1}', 0) == (False, "")
    assert parse("connection refused", 1) == (False, "connection refused")
    assert parse('["x"] no', 1) == (False, '["x"] no')


@pytest.mark.parametrize(
    ("report", "migrations"),
    [
        ({"contracts": ["0003_x"]}, ("0003_x",)),
        ({"contracts": []}, ()),
        ({"contracts": "0003_x"}, None),
        ({}, None),
    ],
)
def test_the_contract_migrations_are_those_that_a_service_reports(report, migrations):
    sections = {"answers": [f"backend {json.dumps(report)}"]}
    assert known_contract_migrations(sections) == migrations


def test_the_clock_of_a_host_is_parsed():
    assert parse_clock(["1700000000"]) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert parse_clock(["date: not found"]) is None
