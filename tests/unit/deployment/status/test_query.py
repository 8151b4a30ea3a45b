"""A look at all hosts: what is read, and that one host does not hide the others."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from ktrdr.deployment.hosts.lock import Owner
from ktrdr.deployment.status.query import Surveyed, survey
from ktrdr.errors import HostUnreachable
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.day import CORE, NOW, B, described, entry, recorded, sections

OWNER = Owner("x", "ada@laptop", "deploy of sha-abc1234", NOW)


def said(**more: list[str]) -> str:
    return sections(
        {
            "clock": [str(int(NOW.timestamp()))],
            "lock": ["free"],
            "history": recorded(entry()),
            "files": [],
            "disk": ["1000 250 /var/lib/docker", "1000 250 /opt/core"],
            "containers": [described("backend"), described("db", "postgres:17")],
            "images": [
                json.dumps(
                    {"id": "sha256:backend", "tags": ["x:1"], "digests": ["x@sha256:1234567890ab"]}
                )
            ],
            **more,
        }
    )


def looked_at(answer: Answer) -> Surveyed:
    transport = RecordingTransport()
    transport.answer(answer)
    (found,) = survey([CORE], transport)
    assert transport.scripts == len(transport.runs) <= 2
    return found


def test_two_scripts_a_host_tell_all() -> None:
    found = looked_at(Answer(stdout=said(lock=["held", f"77 {OWNER.note()}"])))
    assert [each.service for each in found.containers] == ["backend", "db"]
    assert found.digest(found.containers[0]) == "sha256:1234567890ab"
    assert found.digest(found.containers[1]) == ""
    assert found.now == NOW
    assert found.last
    assert found.last.id == "r1"
    assert found.owner == OWNER
    assert [(disk.directory, disk.free_kb) for disk in found.disks] == [("/var/lib/docker", 250)]
    assert not found.troubles
    assert not found.error


def test_a_service_that_only_starts_is_not_unwell_and_one_that_ended_is() -> None:
    found = looked_at(
        Answer(
            stdout=said(
                containers=[
                    described("a", Health={"Status": "starting"}),
                    described("b", Health={"Status": "unhealthy", "Log": [{"Output": "no"}]}),
                    described("c", Status="exited", ExitCode=3),
                    described("d", Status="restarting"),
                    described("e", Health=None),
                ]
            )
        )
    )
    assert {each.service: each.reason for each in found.troubles} == {
        "b": "runs but fails its health check: no",
        "c": "has ended with exit code 3",
        "d": "is restarting",
    }


@pytest.mark.parametrize(
    ("restarts", "up_for_s", "is_unwell"), [(3, 119, True), (3, 121, False), (2, 1, False)]
)
def test_a_service_that_ends_again_and_again_is_unwell_in_the_moments_when_it_runs(
    restarts, up_for_s, is_unwell
) -> None:
    started = (NOW - timedelta(seconds=up_for_s)).isoformat()
    looping = described("a", Health={"Status": "starting"}, StartedAt=started, ExitCode=0)
    found = looked_at(
        Answer(
            stdout=said(containers=[looping.replace('"restarts": 0', f'"restarts": {restarts}')])
        )
    )
    assert [each.reason for each in found.troubles] == (
        ["starts and ends again and again"] if is_unwell else []
    )


def test_a_host_that_was_restarted_lacks_the_secrets_that_were_in_its_memory() -> None:
    assert not looked_at(Answer(stdout=said())).lacks_secrets
    there = looked_at(Answer(stdout=said(delivery=["present backend", "present grafana"])))
    assert there.delivery == {"backend": True, "grafana": True}
    assert not there.lacks_secrets
    gone = looked_at(Answer(stdout=said(delivery=["absent backend", "present grafana"])))
    assert gone.lacks_secrets


def test_a_host_that_is_away_does_not_hide_the_others() -> None:
    transport = RecordingTransport()
    transport.answer(Answer(stdout=said()), host=CORE.host)
    transport.answer(Answer(error=HostUnreachable("away")), host=B.host)
    core, b = survey([CORE, B], transport)
    assert core.containers
    assert b.fault == "away"
    assert not b.containers


def test_without_docker_it_is_still_told_what_was_deployed_and_who_has_the_lock() -> None:
    whole = said(lock=["held", f"77 {OWNER.note()}"], files=["~ .env.core"])
    until_docker = whole[: whole.index("== containers")] + "== containers\n"
    found = looked_at(Answer(exit_code=1, stdout=until_docker, stderr="no\ndaemon is down\n"))
    assert found.fault == "Docker on backend.lab.test cannot be asked: daemon is down"
    assert found.last
    assert found.owner == OWNER
    # Of containers that cannot be seen nothing is claimed.
    assert not found.drift


def test_illegible_answers_are_no_traceback() -> None:
    found = looked_at(Answer(stdout="== clock\nx\n== disk\na b c\n== history\n{\n== images\n[]\n"))
    assert found.containers == ()
    assert found.disks == ()
