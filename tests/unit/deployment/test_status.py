"""Status of hosts, and their drift from the last release."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ktrdr.deployment.hosts.actions import HistoryAction
from ktrdr.deployment.hosts.containers import Container
from ktrdr.deployment.hosts.history import DeployOutcome, HistoryEntry
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.hosts.lock import LockOwner
from ktrdr.deployment.status import HostStatus, collect_status, find_drift
from ktrdr.errors import HostUnreachable
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.histories import FIRST_DAY, history_entry, history_lines
from tests.unit.deployment.sample_hosts import (
    BACKEND_IMAGE,
    CORE,
    NOW,
    TAG,
    B,
    container,
    container_json,
    script_output,
)

OWNER = LockOwner(DeployId("x", "ada@laptop", NOW), "deploy of sha-abc1234")
IMAGE = f"{BACKEND_IMAGE}:{TAG}"
BACKEND = container("backend")
RELEASE = history_entry(1, TAG, duration_s=3700.0, images={IMAGE: "sha256:1"})
ENDED = RELEASE.deploy.at + timedelta(seconds=3700)
DIGESTS = {BACKEND.store_image_id: ("sha256:1",)}


def survey_output(**changes: list[str]) -> str:
    sections = {
        "clock": [str(int(NOW.timestamp()))],
        "lock": ["free"],
        "history": history_lines(history_entry(1, TAG)),
        "disk": ["1000 250 /var/lib/docker", "1000 250 /opt/core"],
        "containers": [container_json("backend"), container_json("db", "postgres:17")],
        "images": [
            "sha256:backend - "
            + json.dumps(
                {
                    "id": "sha256:backend",
                    "digests": [f"{BACKEND_IMAGE}@sha256:1234567890ab"],
                    "descriptor": None,
                }
            )
        ],
    }
    return script_output({**sections, **changes})


def status_from(answer: Answer) -> HostStatus:
    transport = RecordingTransport()
    transport.answer(answer, containing="Usage: status.sh")
    (status,) = collect_status([CORE], transport)
    assert transport.scripts == len(transport.runs) <= 2
    return status


def test_two_scripts_per_host_return_everything() -> None:
    lock = ["held", f"77 {OWNER.to_json()}"]
    status = status_from(Answer(stdout=survey_output(lock=lock)))
    assert [each.service for each in status.containers] == ["backend", "db"]
    assert status.image_digest(status.containers[0]) == "sha256:1234567890ab"
    assert status.image_digest(status.containers[1]) == ""
    assert status.now == NOW
    assert status.last_deploy
    assert status.last_deploy.id == "r1"
    assert status.lock_owner == OWNER
    assert [(disk.directory, disk.free_kb) for disk in status.disks] == [("/var/lib/docker", 250)]
    assert not status.problems
    assert not status.error


def test_a_starting_service_is_no_problem_and_an_exited_one_is() -> None:
    unfit = {"Output": '{"status": "idle"}\nno share\n', "ExitCode": 1}
    containers = [
        container_json("a", Health={"Status": "starting"}),
        container_json("b", Health={"Status": "unhealthy", "Log": [{"Output": "no"}]}),
        container_json("c", Status="exited", ExitCode=3),
        container_json("d", Status="restarting"),
        container_json("e", Health=None),
        container_json("f", Health={"Status": "healthy", "Log": [unfit]}),
        container_json("g", Health={"Status": "starting", "Log": [unfit]}),
    ]
    status = status_from(Answer(stdout=survey_output(containers=containers)))
    assert {each.service: each.reason for each in status.problems} == {
        "b": "fails its health check: no",
        "c": "exited with code 3",
        "d": "is restarting",
        # Docker calls it unhealthy only after several failed checks.
        "f": "is not ready: no share",
        "g": "is not ready: no share",
    }


@pytest.mark.parametrize(
    ("restarts", "uptime_s", "is_problem"), [(3, 119, True), (3, 121, False), (2, 1, False)]
)
def test_a_service_in_a_crash_loop_is_a_problem_even_while_it_runs(
    restarts, uptime_s, is_problem
) -> None:
    started = (NOW - timedelta(seconds=uptime_s)).isoformat()
    looping = container_json("a", Health={"Status": "starting"}, StartedAt=started, ExitCode=0)
    looping = looping.replace('"restarts": 0', f'"restarts": {restarts}')
    status = status_from(Answer(stdout=survey_output(containers=[looping])))
    assert [each.reason for each in status.problems] == (["keeps restarting"] if is_problem else [])


def test_a_rebooted_host_lacks_the_secrets_that_were_in_its_memory() -> None:
    assert not status_from(Answer(stdout=survey_output())).lacks_secrets
    present = ["present backend", "present grafana"]
    status = status_from(Answer(stdout=survey_output(delivery=present)))
    assert status.delivered_secrets == {"backend": True, "grafana": True}
    assert not status.lacks_secrets
    absent = ["absent backend", "present grafana"]
    assert status_from(Answer(stdout=survey_output(delivery=absent))).lacks_secrets


def test_an_unreachable_host_does_not_hide_the_others() -> None:
    transport = RecordingTransport()
    transport.answer(Answer(stdout=survey_output()), host=CORE.address)
    transport.answer(Answer(error=HostUnreachable("away")), host=B.address)
    core, b = collect_status([CORE, B], transport)
    assert core.containers
    assert b.error
    assert b.error.message == "away"
    assert not b.containers


def test_files_are_compared_with_those_of_the_last_good_release() -> None:
    transport = RecordingTransport()
    failed = history_entry(2, outcome=DeployOutcome.FAILED)
    history = history_lines(history_entry(1, TAG), failed)
    transport.answer(Answer(stdout=survey_output(history=history)), containing="Usage: status.sh")
    changes = Answer(stdout="== files\n~ .env.core\n")
    transport.answer(changes, containing="Usage: changed_files.sh")
    (status,) = collect_status([CORE], transport)
    assert ".env.core differs from the release" in status.drift
    assert "main /opt/core conf-1 monitoring\n" in transport.runs[1].script.reveal()


def test_a_failed_comparison_of_files_is_an_error() -> None:
    transport = RecordingTransport()
    transport.answer(Answer(stdout=survey_output()), containing="Usage: status.sh")
    lost = Answer(error=HostUnreachable("away"))
    transport.answer(lost, containing="Usage: changed_files.sh")
    (status,) = collect_status([CORE], transport)
    assert status.error


def test_without_docker_history_and_lock_are_still_known() -> None:
    output = survey_output(lock=["held", f"77 {OWNER.to_json()}"])
    until_docker = output[: output.index("== containers")] + "== containers\n"
    status = status_from(Answer(exit_code=1, stdout=until_docker, stderr="no\ndaemon is down\n"))
    assert status.error
    assert status.error.message == "Docker on backend.lab.test cannot be queried: daemon is down"
    assert status.last_deploy
    assert status.lock_owner == OWNER
    assert not status.drift, "the containers are unknown"


def test_an_unreadable_output_is_no_error() -> None:
    output = "== clock\nx\n== disk\na b c\n== history\n{\n== images\n[]\n"
    status = status_from(Answer(stdout=output))
    assert status.containers == ()
    assert status.disks == ()


# ----------------------------------------------------------------------------------- drift


def drift(
    *entries: HistoryEntry,
    containers: Sequence[Container] = (BACKEND,),
    digests: Mapping[str, tuple[str, ...]] = DIGESTS,
    files: Sequence[str] = (),
) -> tuple[str, ...]:
    return find_drift(entries, containers, digests, files)


def test_a_host_that_matches_its_release_has_no_drift() -> None:
    assert drift(RELEASE) == ()


def test_a_host_without_history_has_no_drift() -> None:
    assert drift() == ()


def test_an_image_with_another_tag_is_drift() -> None:
    other = replace(BACKEND, image=f"{BACKEND_IMAGE}:sha-0000000")
    assert drift(RELEASE, containers=[other]) == (
        "backend runs ktrdr-backend:sha-0000000, which is not in release r1",
    )


def test_another_image_with_the_same_tag_is_drift() -> None:
    (sentence,) = drift(RELEASE, digests={BACKEND.store_image_id: ("sha256:2",)})
    assert sentence.startswith(
        "backend runs a different image with the tag ktrdr-backend:sha-abc1234"
    )


def test_another_index_of_the_image_that_a_container_runs_is_no_drift() -> None:
    later = replace(RELEASE, containers={"backend": BACKEND.short_id}, images={IMAGE: "sha256:2"})
    assert drift(later) == ()
    assert drift(later, containers=[replace(BACKEND, id="another container")])


def test_an_image_without_a_digest_is_compared_by_its_tag() -> None:
    assert drift(RELEASE, digests={}) == ()


def test_the_last_release_of_a_single_service_counts_for_that_service() -> None:
    new = f"{BACKEND_IMAGE}:sha-9999999"
    single = history_entry(2, "sha-9999999", service="backend", images={new: "sha256:9"})
    assert drift(RELEASE, single)
    updated = replace(BACKEND, image=new)
    assert drift(RELEASE, single, containers=[updated], digests={}) == ()


def test_a_container_created_after_the_last_release_was_recreated_by_hand() -> None:
    tolerated, later = ENDED + timedelta(seconds=59), ENDED + timedelta(seconds=61)
    assert drift(RELEASE, containers=[replace(BACKEND, created_at=tolerated)]) == ()
    assert drift(RELEASE, containers=[replace(BACKEND, created_at=later)]) == (
        "backend was recreated by hand after release r1",
    )


def test_a_container_that_the_last_release_did_not_record_was_recreated_by_hand() -> None:
    recorded = replace(RELEASE, containers={"backend": BACKEND.short_id})
    soon = ENDED + timedelta(seconds=1)
    other = replace(BACKEND, id="another", created_at=soon)
    assert drift(recorded, containers=[other]) == (
        "backend was recreated by hand after release r1",
    )
    unrecorded = replace(container("worker"), created_at=soon)
    assert drift(recorded, containers=[BACKEND, unrecorded]) == (
        "worker was recreated by hand after release r1",
    )


def test_a_recorded_container_is_no_drift_whatever_the_clocks_say() -> None:
    recorded = replace(RELEASE, containers={"backend": BACKEND.short_id})
    tomorrow = replace(BACKEND, created_at=NOW + timedelta(days=1))
    assert drift(recorded, containers=[tomorrow]) == ()


def test_a_release_that_was_cut_off_may_have_created_any_container() -> None:
    cut_off = history_entry(2, outcome=DeployOutcome.CUT_OFF)
    assert drift(RELEASE, cut_off, containers=[replace(BACKEND, created_at=NOW)]) == ()


def test_a_service_that_lost_its_container_is_drift() -> None:
    """Even if other containers run its image, as with several workers."""
    recorded = {"backend": BACKEND.short_id, "backtest-worker-2": "id-2"}
    assert drift(replace(RELEASE, containers=recorded)) == (
        "backtest-worker-2 has no container, unlike in release r1",
    )
    later = history_entry(2, containers={"backend": BACKEND.short_id}, images={IMAGE: "sha256:1"})
    assert drift(replace(RELEASE, containers=recorded), later) == ()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("~ .env.core", ".env.core differs from the release"),
        ("- monitoring/a.yml", "monitoring/a.yml is missing, but was in the release"),
        ("+ monitoring/b c.yml", "monitoring/b c.yml is not in the release"),
    ],
)
def test_changed_files_are_named(line: str, sentence: str) -> None:
    assert drift(RELEASE, files=[line]) == (sentence,)


def test_many_changed_files_are_counted() -> None:
    sentences = drift(RELEASE, files=[f"~ {number}" for number in range(20)])
    assert len(sentences) == 6
    assert sentences[-1] == "15 more files differ"


def action(kind: str, hour: int, subject: str = "", **changes: Any) -> HistoryAction:
    deploy = DeployId(f"a{hour}", "ada@laptop", FIRST_DAY + timedelta(hours=hour))
    return replace(HistoryAction(deploy, kind, subject), **changes)


GOOD, CUT_OFF = history_entry(1), history_entry(2, outcome=DeployOutcome.CUT_OFF)


BACK = "or `ktrdr deploy rollback core`"
FAILED = history_entry(2, outcome=DeployOutcome.FAILED)


@pytest.mark.parametrize(
    ("status", "state", "step"),
    [
        (
            HostStatus(CORE, history=(GOOD, CUT_OFF)),
            "unfinished: deploy of sha-0000002 did not finish",
            f"run `ktrdr deploy core all --tag sha-0000002`, {BACK}",
        ),
        (
            HostStatus(CORE, is_unfinished=True),
            "unfinished: a deploy did not finish",
            f"run `ktrdr deploy core all`, {BACK}",
        ),
        (
            HostStatus(CORE, history=(GOOD,), actions=(action("stop", 2, "db"),)),
            "unfinished: stop db did not finish",
            "run the command again",
        ),
        (
            HostStatus(B, history=(GOOD,), actions=(action("drain", 0),)),
            "unfinished: drain did not finish",
            "run `ktrdr deploy workers B --tag sha-0000001`, which ends it",
        ),
        (
            HostStatus(CORE, history=(GOOD, FAILED)),
            "failed: sha-0000002 stays in place",
            f"run `ktrdr deploy core all --tag sha-0000002`, {BACK}",
        ),
        (
            HostStatus(B, history=(GOOD,), containers=(BACKEND,), kept=()),
            "no way back: it does not keep the configuration of release r1 any more",
            "run `ktrdr deploy workers B --tag sha-0000001`, which keeps what runs",
        ),
        (
            HostStatus(CORE, history=(GOOD,), drift=("a differs",)),
            "drifted",
            "see `ktrdr deploy diff core`, run `ktrdr deploy core all --tag sha-0000001`",
        ),
        (
            HostStatus(B, history=(replace(GOOD, scale=3),)),
            "scale: --scale 3 ends with the next deploy without it",
            "set `scale` in the inventory to keep it",
        ),
        (
            HostStatus(B, history=(GOOD,), newest_tag="sha-0000002"),
            "behind: other hosts run sha-0000002",
            "run `ktrdr deploy workers B --tag sha-0000002`",
        ),
    ],
)
def test_each_state_names_the_next_step_with_the_command(status, state, step) -> None:
    ((name, text),) = status.next_steps
    assert f"{name}: {text}" == f"{state}: {step}"


@pytest.mark.parametrize(
    "status",
    [
        HostStatus(CORE, history=(GOOD,), containers=(BACKEND,), kept=("conf-1.tar.gz",)),
        HostStatus(CORE, history=(GOOD, CUT_OFF), lock_owner=OWNER),
        HostStatus(CORE, history=(GOOD,), actions=(action("stop", 0),)),
        HostStatus(
            CORE,
            history=(GOOD,),
            actions=(action("stop", 2), action("stop", 3, outcome=DeployOutcome.DONE)),
        ),
        HostStatus(CORE, history=(GOOD,), actions=(action("stop", 2, outcome=DeployOutcome.DONE),)),
        HostStatus(B, history=(GOOD,), newest_tag=GOOD.tag),
        HostStatus(CORE),
    ],
    ids=["good", "running", "deployed since", "done since", "done", "newest", "new"],
)
def test_a_state_that_needs_nobody_names_no_step(status) -> None:
    assert status.next_steps == []


def test_unfinished_work_kept_releases_and_actions_are_read_from_the_host() -> None:
    stopped = action("stop", 9)
    history = [*history_lines(history_entry(1, TAG)), stopped.event()]
    output = survey_output(history=history, kept=["conf-1"], unfinished=["unfinished"])
    status = status_from(Answer(stdout=output))
    assert (status.is_unfinished, status.kept, status.actions) == (True, ("conf-1",), (stopped,))


def test_a_node_is_behind_the_newest_release_of_the_queried_hosts() -> None:
    transport = RecordingTransport()
    for host, entry in ((CORE, history_entry(2, "sha-2")), (B, history_entry(1, "sha-1"))):
        output = survey_output(history=history_lines(entry), containers=[], images=[])
        transport.answer(Answer(stdout=output), host=host.address, containing="status.sh")
    core, b = collect_status([CORE, B], transport)
    assert core.next_steps == []
    assert [state for state, _ in b.next_steps] == ["behind"]
