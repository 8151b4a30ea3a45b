"""The deploy to one host: its steps, their errors, and what it undoes and records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy.comparison import Action
from ktrdr.deployment.hosts.actions import HistoryAction
from ktrdr.deployment.hosts.history import DeployOutcome
from ktrdr.deployment.releases.release import commit_in_tag
from ktrdr.deployment.ssh.interface import RemoteResult
from ktrdr.errors import (
    DeploymentFailed,
    HostNotReady,
    HostUnreachable,
    ImageError,
    Interrupted,
    Locked,
)
from ktrdr.secret import Secret
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.conftest import TAG
from tests.unit.deployment.fleet import registered_worker
from tests.unit.deployment.harness import (
    APPLY,
    CHECK,
    DISCARD,
    FETCH,
    GO_BACK,
    LOCK,
    RECORD,
    SECRETS,
    START,
    VERIFY,
    DeploymentHarness,
    earlier_entry,
)
from tests.unit.deployment.histories import history_lines


@pytest.fixture
def harness_for(planned, clock) -> Callable[..., DeploymentHarness]:
    """Plan a deploy, and return a harness that runs it."""

    def make(target: str = "core", **arguments: Any) -> DeploymentHarness:
        return DeploymentHarness(planned(target, **arguments), clock)

    return make


def test_a_deploy_checks_fetches_applies_and_waits_in_this_order(harness_for) -> None:
    harness = harness_for().ready()
    result = harness.deploy()
    assert [CHECK in harness.scripts[0], FETCH in harness.scripts[1]] == [True, True]
    assert START in harness.scripts[2]
    assert [APPLY in harness.scripts[3], VERIFY in harness.scripts[4]] == [True, True]
    assert RECORD in harness.scripts[5]
    assert len(harness.scripts) == 6
    assert result.changed
    assert {state.change.action for state in result.services} == {Action.CREATED}


def test_a_deploy_records_the_containers_that_run_at_its_end(harness_for) -> None:
    harness = harness_for().ready()
    harness.deploy()
    running = {name: each["id"][:12] for name, each in harness.host.containers.items()}
    assert harness.ended_event()["containers"] == running
    assert "backend" in running


def test_only_scripts_that_need_secrets_contain_them(harness_for) -> None:
    harness = harness_for().ready()
    harness.deploy()
    check, fetch, start, apply, verify, record = harness.scripts
    for script, names in (
        (check, set()),
        (start, set()),
        (record, set()),
        (
            fetch,
            {"DB_USER", "DB_PASSWORD", "JWT_SECRET", "GF_ADMIN_PASSWORD", "DOCKER_AUTH_CONFIG"},
        ),
        (apply, set(SECRETS) - {"WORKER_TOKEN"}),
        (verify, set()),
    ):
        exported = {name for name, value in SECRETS.items() if f"={value.reveal()}\n" in script}
        assert exported == names


def test_a_host_that_already_matches_the_release_is_not_changed(harness_for) -> None:
    harness = harness_for()
    harness.host.run_all()
    harness.ready()
    result = harness.deploy()
    assert not result.changed
    assert not harness.scripts_with(APPLY)
    assert events.StepSkipped("apply", "nothing to do") in harness.events
    assert not harness.scripts_with(VERIFY), "the fetch has queried the containers already"
    assert harness.ended_event()["outcome"] == "unchanged"
    assert harness.ended_event()["containers"]["backend"]


def test_a_host_that_is_not_ready_is_not_changed(harness_for) -> None:
    harness = harness_for()
    harness.host.facts["docker"] = "down"
    harness.ready()
    with pytest.raises(HostNotReady, match="Docker daemon is not running"):
        harness.deploy()
    assert not any(FETCH in script or APPLY in script for script in harness.scripts)


def test_without_validation_the_host_is_not_checked(harness_for) -> None:
    harness = harness_for(skip_validation=True).ready()
    harness.deploy()
    assert not harness.scripts_with(CHECK)
    assert events.StepSkipped("check the host", "--skip-validation") in harness.events


def test_the_error_of_a_host_that_cannot_lock_lists_all_its_problems(harness_for) -> None:
    harness = harness_for()
    harness.host.facts |= {"docker": "down", "workdir": "not-writable"}
    harness.ready().transport.answer(Answer(1, stderr="mkdir: Permission denied"), containing=LOCK)
    with pytest.raises(
        HostNotReady, match="daemon is not running; deploy has no permission to write"
    ):
        harness.deploy()


def test_the_error_of_a_ready_host_that_cannot_lock_names_the_reason(harness_for) -> None:
    harness = harness_for().ready()
    harness.transport.answer(Answer(1, stderr="mkdir: Input/output error"), containing=LOCK)
    with pytest.raises(HostNotReady, match="Input/output error"):
        harness.deploy()
    assert not harness.scripts_with(FETCH)


WARNING = "WARNING: Error loading config file: open /home/x/config.json: permission denied\n"


@pytest.mark.parametrize(
    ("stderr", "kind", "message"),
    [
        ("error from registry: unauthorized", ImageError, "rejects the login"),
        ("manifest unknown: manifest unknown", ImageError, "is not in the registry"),
        ("dial tcp: lookup ghcr.io: no such host", ImageError, "cannot reach the registry"),
        ("write /var/lib/docker/x: no space left on device", HostNotReady, "disk of"),
        ("failed to connect to the docker API at unix:///x", HostNotReady, "daemon of"),
        ("something new", ImageError, "something new"),
        (f"{WARNING}manifest unknown", ImageError, "is not in the registry"),
        (f"something new\n{WARNING}", ImageError, "could not pull .*: something new"),
        (
            'error getting credentials - err: exec: "docker-credential-x": not found in $PATH',
            ImageError,
            "could not pull .*: error getting credentials",
        ),
    ],
)
def test_a_failed_pull_is_explained_and_the_staged_files_are_removed(
    harness_for, stderr, kind, message
) -> None:
    harness = harness_for().ready()
    failure = Answer(1, stdout="== stage\n== pull\n", stderr=stderr)
    harness.transport.answer(failure, containing=FETCH)
    with pytest.raises(kind, match=message) as caught:
        harness.deploy()
    assert ("start its run again" in caught.value.hint) == ("is not in" in caught.value.message)
    assert DISCARD in harness.scripts[-1]
    assert harness.is_unlocked
    assert not harness.scripts_with(APPLY)


@pytest.mark.parametrize(
    ("stderr", "may_be_missing"),
    [
        ("error from registry: unauthorized", False),
        ("no basic auth credentials", False),
        # GHCR answers so, both to a bad login and for an image that was never pushed.
        ("error from registry: denied", True),
        ("unexpected status code: 403 Forbidden", True),
        ("pull access denied for x, repository does not exist or may require authorization", True),
    ],
)
def test_a_rejected_login_says_which_token_ghcr_takes_and_whether_the_image_may_be_missing(
    harness_for, stderr, may_be_missing
) -> None:
    harness = harness_for().ready()
    answer = Answer(1, stdout="== stage\n== pull\n", stderr=stderr)
    harness.transport.answer(answer, containing=FETCH)
    with pytest.raises(ImageError, match="the registry rejects the login for ") as error:
        harness.deploy()
    assert error.value.message.endswith(", or has no such image yet") == may_be_missing
    assert ("start its run again" in str(error.value.hint)) == may_be_missing
    assert "only a classic personal access token" in str(error.value.hint)


@pytest.mark.parametrize(
    ("code", "stderr", "message"),
    [
        (1, "Cannot connect to the Docker daemon at unix:///x", "Docker daemon of .* stopped"),
        (137, " Image x Pulled", "was killed by signal 9"),
    ],
)
@pytest.mark.parametrize("phase", ["stage", "pull", "role", "hashes"])
def test_a_fetch_that_the_host_ended_is_not_blamed_on_the_release(
    harness_for, code, stderr, message, phase
) -> None:
    harness = harness_for().ready()
    harness.transport.answer(Answer(code, f"== {phase}\n", stderr), containing=FETCH)
    with pytest.raises(HostNotReady, match=message):
        harness.deploy()


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        ("write /var/lib/docker/x: no space left on device", "the disk of .* is full$"),
        ("sh: 312: printf: printf: I/O error", "a disk of .*: it is full or broken"),
        ("Bind for 0.0.0.0:80 failed: port is already allocated", "a port .* is in use on"),
        ("bind source path does not exist: /mnt/x", "a directory that the stack mounts"),
    ],
)
def test_a_problem_of_the_host_during_the_apply_is_not_blamed_on_the_release(
    harness_for, stderr, message
) -> None:
    harness = harness_for().ready()
    harness.transport.answer(Answer(1, stderr=stderr), containing=APPLY)
    with pytest.raises(HostNotReady, match=message):
        harness.deploy()


def test_the_log_of_a_container_that_compose_could_not_start_is_shown(harness_for) -> None:
    harness = harness_for().ready()
    harness.host.containers["db"]["state"] |= {"Status": "exited", "ExitCode": 3}
    harness.transport.answer(Answer(stdout=harness.host.verify_output()), containing=VERIFY)
    harness.transport.answer(
        Answer(stdout="== id-of-db\nFATAL: no room\n"), containing="Usage: container_logs.sh"
    )
    harness.transport.answer(
        Answer(1, stderr="dependency failed to start: container db exited (3)"), containing=APPLY
    )
    with pytest.raises(DeploymentFailed, match="could not start core"):
        harness.deploy()
    assert events.LogTail("db", ("FATAL: no room",)) in harness.events


def test_further_secrets_of_the_inventory_are_hidden_in_the_log_of_a_failed_deploy(
    planned, clock
) -> None:
    plan = planned(health_timeout=1)
    host = replace(plan.host, further_secrets=("BROKER_DSN",))
    harness = DeploymentHarness(replace(plan, config=replace(plan.config, host=host)), clock)
    harness.ready().host.containers["backend"]["state"]["Health"]["Status"] = "unhealthy"
    harness.transport.answer(Answer(stdout=harness.host.verify_output()), containing=VERIFY)
    log = "== id-of-backend\nBROKER_DSN=former\n"
    harness.transport.answer(Answer(stdout=log), containing="Usage: container_logs.sh")
    with pytest.raises(DeploymentFailed):
        harness.deploy()
    (shown,) = [event for event in harness.events if isinstance(event, events.LogTail)]
    assert shown.lines == ("BROKER_DSN=•••",)


def test_services_that_are_not_healthy_in_time_fail_the_deploy(harness_for) -> None:
    harness = harness_for(health_timeout=10).ready()
    harness.host.containers["backend"]["state"]["Health"]["Status"] = "starting"
    harness.transport.answer(Answer(stdout=harness.host.verify_output()), containing=VERIFY)
    with pytest.raises(DeploymentFailed, match=r"within 10 s: backend is starting"):
        harness.deploy()
    assert len(harness.scripts_with(VERIFY)) == 21, "every half second"


def test_no_part_of_a_secret_that_the_log_tail_cuts_in_two_is_shown(harness_for) -> None:
    """Docker's log tail may begin in the middle of a secret of many lines."""
    harness = harness_for(health_timeout=1).ready()
    harness.host.containers["backend"]["state"]["Health"]["Status"] = "unhealthy"
    harness.transport.answer(Answer(stdout=harness.host.verify_output()), containing=VERIFY)
    rest_of_secret = [f"secret line {number}" for number in range(60)]
    lines = [*rest_of_secret, *(f"line {number}" for number in range(80))]
    text = "\n".join(["== id-of-backend", *lines, ""])
    harness.transport.answer(Answer(stdout=text), containing="main 140 ")
    with pytest.raises(DeploymentFailed):
        harness.deploy()
    (shown,) = [event for event in harness.events if isinstance(event, events.LogTail)]
    assert shown.lines == tuple(f"line {number}" for number in range(40, 80))
    # Not even with -vv, which shows every line of every script.
    output = [event.line for event in harness.events if isinstance(event, events.Output)]
    assert not any("secret line" in line for line in output)


def test_workers_that_the_backend_does_not_list_fail_the_deploy(harness_for) -> None:
    harness = harness_for("workers", health_timeout=2).ready()
    with pytest.raises(DeploymentFailed, match="is not registered at the backend"):
        harness.deploy()


def test_workers_that_the_backend_lists_are_healthy(harness_for) -> None:
    harness = harness_for("workers").ready()
    plan = harness.deployment.plan
    harness.backend.responses = [
        [registered_worker(plan, service.worker_url) for service in plan.expected]
    ]
    assert harness.deploy().warnings == ()


def test_a_backend_that_this_machine_cannot_ask_causes_only_a_warning(harness_for) -> None:
    harness = harness_for("workers").ready()
    harness.backend.error = HostUnreachable("the backend does not respond")
    (warning,) = harness.deploy().warnings
    assert warning == (
        "this machine could not ask the backend for its workers (the backend does not respond); "
        "the workers themselves report that they are registered"
    )


def test_destructive_effects_are_known_before_anything_changes(harness_for) -> None:
    harness = harness_for()
    harness.host.run_all()
    harness.host.containers["db"]["labels"]["com.docker.compose.config-hash"] = "old"
    harness.ready()
    harness.deployment.prepare()
    (effect,) = harness.deployment.comparison.destructive_effects
    assert "the database will be restarted" in effect
    harness.deployment.cancel()
    assert not harness.scripts_with(APPLY)
    assert DISCARD in harness.scripts[-1], "the staged files are removed"
    assert harness.is_unlocked


def test_an_interruption_stops_the_deploy_before_the_next_step(harness_for) -> None:
    harness = harness_for().ready()
    harness.deployment.prepare()
    harness.deployment.stopping.set()
    result = harness.deployment.apply()
    assert isinstance(result.error, Interrupted)
    assert not harness.scripts_with(APPLY)
    assert harness.ended_event()["outcome"] == "interrupted"


@pytest.mark.parametrize("containing", [APPLY, VERIFY])
def test_an_interrupted_deploy_is_undone_by_the_host_and_recorded(harness_for, containing) -> None:
    harness = harness_for().ready()
    harness.transport.answer(Answer(error=Interrupted("stop")), containing=containing)
    with pytest.raises(Interrupted):
        harness.deploy()
    assert len(harness.scripts_with(GO_BACK)) == 1
    assert harness.ended_event()["outcome"] == "interrupted"


@pytest.mark.parametrize("containing", [APPLY, VERIFY])
def test_after_the_end_of_the_connection_the_host_goes_back_and_records_it(
    harness_for, containing
) -> None:
    harness = harness_for().ready()
    harness.transport.answer(Answer(error=HostUnreachable("lost")), containing=containing)
    harness.deployment.prepare()
    result = harness.deployment.apply()
    assert isinstance(result.error, HostUnreachable)
    (warning,) = result.warnings
    assert warning == (
        "core starts what this deploy has stopped by itself: follow it with "
        "`ktrdr deploy watch core`"
    )
    ours = [*harness.scripts_with(GO_BACK), *harness.scripts_with(RECORD)]
    assert not ours, "they would disturb the host"
    assert not harness.scripts_with(DISCARD), "the host uses the same directory"
    assert harness.is_unlocked


def test_a_deploy_that_the_host_went_back_from_before_its_confirmation_has_failed(
    harness_for,
) -> None:
    harness = harness_for().ready()
    harness.transport.answer(Answer(73), Answer(), containing=RECORD)
    with pytest.raises(DeploymentFailed, match="core went back by itself, because") as caught:
        harness.deploy()
    assert "--confirm-within" in (caught.value.hint or "")
    assert harness.is_unlocked


def test_a_confirmation_that_did_not_arrive_fails_the_deploy(harness_for) -> None:
    harness = harness_for().ready()
    harness.transport.answer(Answer(error=HostUnreachable("lost")), containing=RECORD)
    with pytest.raises(HostUnreachable):
        harness.deploy()


def test_an_outcome_that_could_not_be_recorded_is_a_warning(harness_for) -> None:
    harness = harness_for().ready()
    harness.transport.answer(Answer(1, stderr="No space left on device"), containing=RECORD)
    (warning,) = harness.deploy().warnings
    assert warning == "the outcome could not be recorded: No space left on device"


def test_a_detached_deploy_is_left_to_the_host_once_it_is_applied(harness_for) -> None:
    harness = harness_for(is_detached=True).ready()
    result = harness.deploy()
    assert (result.outcome, result.changed) == (DeployOutcome.DETACHED, True)
    assert not harness.scripts_with(VERIFY)
    assert not harness.scripts_with(RECORD), "the host records it"
    assert harness.is_unlocked


def test_a_detached_deploy_goes_on_after_the_end_of_the_connection(harness_for) -> None:
    harness = harness_for(is_detached=True).ready()
    harness.transport.answer(Answer(error=HostUnreachable("lost")), containing=APPLY)
    with pytest.raises(HostUnreachable):
        harness.deploy()
    assert harness.warnings == [
        "core finishes this deploy by itself: follow it with `ktrdr deploy watch core`"
    ]


def test_a_detached_deploy_that_changes_nothing_ends_as_usual(harness_for) -> None:
    harness = harness_for(is_detached=True)
    harness.host.run_all()
    harness.ready()
    assert harness.deploy().outcome is DeployOutcome.UNCHANGED


def test_a_lock_of_another_owner_stops_the_deploy(harness_for) -> None:
    harness = harness_for().ready()
    note = '7 {"id":"x","who":"eve@pc","reason":"deploy of b","since":"2026-11-23T11:00:00+00:00"}'
    harness.transport.answer(Answer(75, stdout=note), containing=LOCK)
    with pytest.raises(
        Locked, match="locked by eve@pc, since 2026-11-23 11:00:00 UTC: deploy of b"
    ):
        harness.deploy()
    assert not harness.scripts_with(FETCH)


def test_a_lock_that_was_lost_before_the_change_stops_the_deploy(harness_for) -> None:
    harness = harness_for().ready()
    harness.transport.answer(Answer(74), containing=APPLY)
    with pytest.raises(Locked, match="was lost"):
        harness.deploy()
    assert harness.ended_event()["outcome"] == "failed"


class LockReleasingTransport(RecordingTransport):
    """Host on which another operator releases the lock when the first health query arrives."""

    def run(self, host: str, script: Secret, **arguments: Any) -> RemoteResult:
        self.released = self.released or VERIFY in script.reveal()
        return super().run(host, script, **arguments)


def test_the_health_gate_notices_that_the_lock_was_released(planned, clock) -> None:
    harness = DeploymentHarness(planned(), clock, transport=LockReleasingTransport()).ready()
    harness.host.containers["backend"]["state"]["Health"]["Status"] = "starting"
    harness.transport.answer(Answer(stdout=harness.host.verify_output()), containing=VERIFY)
    with pytest.raises(Locked, match="was lost while the command ran"):
        harness.deploy()
    assert len(harness.scripts_with(VERIFY)) == 1
    assert not harness.scripts_with(RECORD), "the host goes back, and records it"


def test_a_tag_that_was_moved_causes_a_warning(harness_for) -> None:
    harness = harness_for()
    image = "ghcr.io/ktrdr/ktrdr-backend:sha-abc1234"
    before = earlier_entry(harness.deployment.plan, tag=TAG, images={image: "sha256:another"})
    harness.host.history = history_lines(before)
    harness.ready()
    (warning,) = harness.deploy().warnings
    assert warning == (
        f"{image} refers to a different image than in release {before.id}: its tag was moved"
    )


def test_another_index_of_what_runs_is_no_moved_tag(harness_for) -> None:
    harness = harness_for()
    harness.host.run_all()
    image = "ghcr.io/ktrdr/ktrdr-backend:sha-abc1234"
    ids = {name: each["id"][:12] for name, each in harness.host.containers.items()}
    before = earlier_entry(
        harness.deployment.plan, tag=TAG, images={image: "sha256:another"}, containers=ids
    )
    harness.host.history = history_lines(before)
    assert harness.ready().deploy().warnings == ()


def test_containers_of_another_compose_are_named_before_they_are_recreated(harness_for) -> None:
    harness = harness_for()
    harness.host.run_all()
    harness.host.facts["compose"] = "v5.6.1"
    for each in harness.host.containers.values():
        each["labels"]["com.docker.compose.version"] = "5.3.1"
    harness.ready()
    harness.deployment.prepare()
    assert not harness.warnings, "nothing is recreated"
    harness = harness_for()
    harness.host.run_all()
    harness.host.facts["compose"] = "v5.6.1"
    labels = harness.host.containers["db"]["labels"]
    labels |= {"com.docker.compose.version": "5.3.1", "com.docker.compose.config-hash": "old"}
    harness.ready()
    harness.deployment.prepare()
    (warning,) = harness.warnings
    assert "Compose was 5.3.1 when these containers were made, and is 5.6.1 now" in warning


NO_START = (
    "Error response from daemon: failed to create task for container: failed to create shim task: "
    "OCI runtime create failed: runc create failed: unable to start container process: error "
    "during container init: "
)
SYSCTL = "open sysctl net.ipv4.ip_unprivileged_port_start file: reopen fd 8: permission denied"
KEYRING = "unable to join session keyring: unable to create session key: disk quota exceeded"
APPARMOR = "AppArmor enabled on system but the docker-default profile could not be loaded"


@pytest.mark.parametrize(
    ("stderr", "message", "hint"),
    [
        (
            f"{NO_START}{SYSCTL}: unknown.",
            "no container starts on .*: runc create failed: .*reopen fd 8",
            "lxc-pve",
        ),
        (f"{NO_START}{KEYRING}", "session key", "keyctl=1"),
        (f"Error response from daemon: {APPARMOR}", "AppArmor enabled", "nesting=1"),
        ("Error response from daemon: no such runtime", "no such runtime", "docker run"),
        ("write /x: no space left on device", "the disk of .* is full", "Free space"),
        ("Cannot connect to the Docker daemon at unix:///x", "stopped running", "systemctl"),
    ],
)
def test_a_host_that_starts_no_container_is_refused_before_anything_stops(
    harness_for, stderr, message, hint
) -> None:
    harness = harness_for().ready()
    harness.transport.answer(Answer(126, stderr=stderr + "\n"), containing=START)
    with pytest.raises(HostNotReady, match=message) as caught:
        harness.deploy()
    assert hint in (caught.value.hint or "")
    assert not harness.scripts_with(APPLY)
    assert DISCARD in harness.scripts[-1]
    assert harness.is_unlocked


def test_an_apply_in_which_no_container_starts_has_the_same_remedy(harness_for) -> None:
    harness = harness_for(skip_validation=True).ready()
    harness.transport.answer(Answer(1, stderr=f"{NO_START}{SYSCTL}\n"), containing=APPLY)
    with pytest.raises(HostNotReady) as caught:
        harness.deploy()
    assert "lxc-pve" in (caught.value.hint or "")
    assert not harness.scripts_with(START)


def test_without_changes_no_container_is_started(harness_for) -> None:
    harness = harness_for()
    harness.host.run_all()
    harness.ready().deploy()
    assert not harness.scripts_with(START)


def test_the_tag_of_a_commit_is_distinguished_from_other_tags() -> None:
    assert commit_in_tag("sha-abc1234") == "abc1234"
    assert commit_in_tag("latest") is None


@pytest.mark.parametrize(
    ("state", "action", "reason"),
    [
        ({"Status": "exited"}, Action.STARTED, "is exited"),
        ({"Status": "created"}, Action.RECREATED, "could not be started"),
        (
            {"Status": "exited", "Error": "task already exists"},
            *(Action.RECREATED, "could not be started"),
        ),
    ],
)
def test_a_container_that_could_not_be_started_is_recreated(
    harness_for, state, action, reason
) -> None:
    harness = harness_for().ready()
    harness.host.containers["db"]["state"] |= state
    harness.transport.answer(Answer(stdout=harness.host.fetch_output()), containing=FETCH)
    harness.deployment.prepare()
    (change,) = [
        change for change in harness.deployment.comparison.services if change.service == "db"
    ]
    assert (change.action, change.reason) == (action, reason)


class DyingTransport(LockReleasingTransport):
    """Host that dies when the first health query arrives: its shell first, then the connection."""

    def run(self, host: str, script: Secret, **arguments: Any) -> RemoteResult:
        if VERIFY in script.reveal():
            self.answer(Answer(error=HostUnreachable(f"{host} did not answer in time")))
        return super().run(host, script, **arguments)


def test_a_host_that_dies_is_unreachable_and_nobody_released_its_lock(planned, clock) -> None:
    harness = DeploymentHarness(planned(), clock, transport=DyingTransport()).ready()
    harness.deployment.prepare()
    result = harness.deployment.apply()
    assert isinstance(result.error, HostUnreachable)
    assert result.error.message == "backend.lab.test did not answer in time"


def test_containers_of_another_work_directory_are_refused_before_anything_changes(
    harness_for,
) -> None:
    harness = harness_for("workers")
    harness.host.run_all()
    for container in harness.host.containers.values():
        container["labels"]["com.docker.compose.project.working_dir"] = "/opt/ktrdr-workers-old"
    harness.ready()
    with pytest.raises(HostNotReady, match="belong to /opt/ktrdr-workers-old") as raised:
        harness.deploy()
    assert "set its `workdir` to /opt/ktrdr-workers-old" in str(raised.value.hint)
    assert not harness.scripts_with(APPLY)
    assert harness.is_unlocked


def test_without_validation_containers_of_another_work_directory_are_deployed(harness_for) -> None:
    harness = harness_for(skip_validation=True)
    harness.host.run_all()
    for container in harness.host.containers.values():
        container["labels"]["com.docker.compose.project.working_dir"] = "/opt/old"
    harness.ready()
    assert not harness.deploy().error


def changing_host(harness: DeploymentHarness, *, kept: str) -> DeploymentHarness:
    """Let the host run the services, keep a configuration, and have a file to change."""
    harness.host.run_all()
    harness.host.files = ["+ .env.core"]
    harness.ready()
    output = f"{harness.host.fetch_output()}== kept\n{kept}\n"
    harness.transport.answer(Answer(stdout=output), containing=FETCH)
    return harness


def test_a_deploy_without_a_way_back_says_so_before_it_changes_anything(planned, clock) -> None:
    plan = planned()
    harness = DeploymentHarness(plan, clock, plan_rollback=lambda *_: plan)
    changing_host(harness, kept="").deployment.prepare()
    (warning,) = harness.warnings
    assert warning.startswith("there is no way back on core if a new release fails: its history")
    harness = DeploymentHarness(plan, clock, plan_rollback=lambda *_: plan)
    entry = earlier_entry(plan)
    harness.host.history = history_lines(entry)
    changing_host(harness, kept=f"{entry.configuration}.tar.gz").deployment.prepare()
    assert harness.warnings == []


def test_rotated_secrets_and_the_scale_are_recorded(harness_for) -> None:
    harness = harness_for("workers", scale=2).ready()
    rotated = Answer(stdout="== rotated\njwt_secret\n")
    harness.transport.answer(rotated, containing=APPLY)
    harness.deployment.also.append("ran the hook pre-deploy")
    harness.deployment.prepare()
    harness.deployment.apply()
    assert harness.ended_event()["also"] == ["ran the hook pre-deploy", "rotated jwt_secret"]
    assert '"scale":2' in harness.scripts_with(APPLY)[0]


def test_a_deploy_ends_the_drain_of_a_deploy_that_was_cut_off(planned, clock) -> None:
    plan = planned("workers")
    harness = DeploymentHarness(plan, clock)
    killed = replace(plan.entry.deploy, id="20261101-000000-0001")
    harness.host.run_all()
    harness.host.history = [HistoryAction(killed, "drain").event()]
    harness.ready()
    harness.backend.responses = [
        [registered_worker(plan, service.worker_url) for service in plan.expected]
    ]
    result = harness.deploy()
    node = plan.host.network_name
    assert harness.backend.requests == [f"undrain {node}"]
    assert result.warnings == (
        f"{node} gets operations again: deploy 20261101-000000-0001 had drained it",
    )
    assert len(harness.scripts_with('"kind":"drain"')) == 1
    ended = '"id":"20261101-000000-0001","kind":"drain"'
    assert '"outcome":"done"' in harness.scripts_with(ended)[0]
