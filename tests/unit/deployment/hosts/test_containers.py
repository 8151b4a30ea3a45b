"""What is read from Docker's reports."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from ktrdr.deployment.hosts.containers import (
    parse_clock,
    parse_containers,
    parse_image_ids,
    parse_reports,
)


def line(service="db", container_id="1", status="running", started="", **more):
    return json.dumps(
        {
            "id": container_id,
            "image": "sha256:by-engine",
            "name": "img:1",
            "labels": {"com.docker.compose.service": service},
            "state": {"Status": status, "StartedAt": started, "ExitCode": 0},
            "restarts": 0,
            **more,
        }
    )


def test_of_several_containers_of_a_service_the_running_one_counts():
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
def test_dockers_times_are_read(text, expected):
    assert parse_containers([line(started=text)])["db"].started_at == expected


def test_the_image_is_the_one_that_compose_noted():
    labels = {"com.docker.compose.service": "db", "com.docker.compose.image": "sha256:by-compose"}

    assert parse_containers([line(labels=labels)])["db"].image_id == "sha256:by-compose"
    assert parse_containers([line()])["db"].image_id == "sha256:by-engine"


def test_a_container_without_a_health_check_has_no_health():
    state = {"Status": "running", "StartedAt": "", "Health": {"Status": "none"}}

    assert parse_containers([line(state=state)])["db"].health == ""


def test_lines_that_are_no_objects_are_passed_over():
    assert parse_containers(["", "template parsing error", "[]", line()]).keys() == {"db"}


def test_images_are_known_by_tags_and_digests():
    entry = {"id": "sha256:1", "tags": ["a:1", "a:2"], "digests": None}
    other = {"id": "sha256:2", "tags": [], "digests": ["b@sha256:3"]}

    assert parse_image_ids([json.dumps(entry), json.dumps(other)]) == {
        "a:1": "sha256:1",
        "a:2": "sha256:1",
        "b@sha256:3": "sha256:2",
    }


def test_answers_are_read_by_service_and_missing_ones_left_out():
    lines = ['a {"x": 1}', "b ", "c not json", "d 3"]
    assert parse_reports({"answers": lines}) == {"a": {"x": 1}}


def test_a_service_that_was_not_asked_is_taken_at_what_its_health_check_said():
    def checked(service, output, status="healthy"):
        log = [{"Output": "{}"}, {"Output": output}]
        return line(service, state={"Status": "running", "Health": {"Status": status, "Log": log}})

    found = {
        "containers": [
            checked("asked", '{"x": 1}\n'),
            checked("unasked", '{"x": 2}\n'),
            checked("ill", '{"x": 3}', status="unhealthy"),
            checked("silent", ""),
        ],
        "answers": ['asked {"x": 4}'],
    }

    assert parse_reports(found) == {"asked": {"x": 4}, "unasked": {"x": 2}}


def test_the_hosts_clock_is_read():
    assert parse_clock(["1700000000"]) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert parse_clock(["date: not found"]) is None
