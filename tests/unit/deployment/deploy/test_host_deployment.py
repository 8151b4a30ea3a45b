"""The runner: step by step, undoing what it must, and saying what has come of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy.comparison import Action
from ktrdr.deployment.releases.release import commit_in
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
from tests.unit.deployment.watched import (
    APPLY,
    CHECK,
    FETCH,
    LOCK,
    RECORD,
    SECRETS,
    UNDO,
    VERIFY,
    Watched,
    earlier,
)


@pytest.fixture
def watched(planned, clock) -> Callable[..., Watched]:
    def make(target="core", **asked: Any) -> Watched:
        return Watched(planned(target, **asked), clock)

    return make


def test_a_deploy_checks_fetches_applies_and_waits_in_this_order(watched) -> None:
    watch = watched().ready()
    result = watch.deploy()
    assert [CHECK in watch.scripts[0], FETCH in watch.scripts[1]] == [True, True]
    assert [APPLY in watch.scripts[2], VERIFY in watch.scripts[3]] == [True, True]
    assert RECORD in watch.scripts[4]
    assert len(watch.scripts) == 5
    assert result.changed
    assert {state.change.action for state in result.services} == {Action.CREATED}


def test_the_containers_that_a_deploy_has_left_are_written_down(watched) -> None:
    watch = watched().ready()
    watch.deploy()
    left = {name: each["id"][:12] for name, each in watch.host.containers.items()}
    assert watch.ended()["containers"] == left
    assert "backend" in left


def test_secrets_are_in_the_scripts_that_need_them_and_in_no_other(watched) -> None:
    watch = watched().ready()
    watch.deploy()
    check, fetch, apply, verify, record = watch.scripts
    for script, names in (
        (check, set()),
        (record, set()),
        (
            fetch,
            {"DB_USER", "DB_PASSWORD", "JWT_SECRET", "GF_ADMIN_PASSWORD", "DOCKER_AUTH_CONFIG"},
        ),
        (
            apply,
            {"DB_USER", "DB_PASSWORD", "JWT_SECRET", "GF_ADMIN_PASSWORD", "DB_PASSWORD_VERIFIER"},
        ),
        (verify, set()),
    ):
        held = {name for name, value in SECRETS.items() if f"={value.reveal()}\n" in script}
        assert held == names


def test_a_host_that_is_already_as_it_should_be_is_not_touched(watched) -> None:
    watch = watched()
    watch.host.run_all()
    watch.ready()
    result = watch.deploy()
    assert not result.changed
    assert not any(APPLY in script for script in watch.scripts)
    assert events.StepSkipped("apply", "nothing to do") in watch.events
    assert not any(VERIFY in script for script in watch.scripts), "what was fetched was a look"
    assert watch.ended()["outcome"] == "unchanged"
    assert watch.ended()["containers"]["backend"]


def test_a_host_that_is_not_ready_is_not_touched(watched) -> None:
    watch = watched()
    watch.host.facts["docker"] = "down"
    watch.ready()
    with pytest.raises(HostNotReady, match="Docker daemon does not run"):
        watch.deploy()
    assert not any(FETCH in script or APPLY in script for script in watch.scripts)


def test_without_validation_the_host_is_not_looked_at_first(watched) -> None:
    watch = watched(skip_validation=True).ready()
    watch.deploy()
    assert not any(CHECK in script for script in watch.scripts)
    assert events.StepSkipped("check the host", "--skip-validation") in watch.events


def test_a_host_that_cannot_lock_says_all_that_is_wrong_with_it(watched) -> None:
    watch = watched()
    watch.host.facts |= {"docker": "down", "workdir": "not-writable"}
    watch.ready().transport.answer(Answer(1, stderr="mkdir: Permission denied"), containing=LOCK)
    with pytest.raises(HostNotReady, match="daemon does not run; deploy may not write"):
        watch.deploy()


def test_a_host_that_cannot_lock_and_seems_ready_says_why_it_cannot(watched) -> None:
    watch = watched().ready()
    watch.transport.answer(Answer(1, stderr="mkdir: Input/output error"), containing=LOCK)
    with pytest.raises(HostNotReady, match="Input/output error"):
        watch.deploy()
    assert not any(FETCH in script for script in watch.scripts)


@pytest.mark.parametrize(
    ("stderr", "kind", "words"),
    [
        ("error from registry: unauthorized", ImageError, "refuses the login"),
        ("manifest unknown: manifest unknown", ImageError, "is not in the registry"),
        ("dial tcp: lookup ghcr.io: no such host", ImageError, "cannot reach the registry"),
        ("write /var/lib/docker/x: no space left on device", HostNotReady, "disk of"),
        ("failed to connect to the docker API at unix:///x", HostNotReady, "daemon of"),
        ("something new", ImageError, "something new"),
    ],
)
def test_a_pull_that_fails_is_explained_and_what_was_staged_is_removed(
    watched, stderr, kind, words
) -> None:
    watch = watched().ready()
    failure = Answer(1, stdout="== stage\n== pull\n", stderr=stderr)
    watch.transport.answer(failure, containing=FETCH)
    with pytest.raises(kind, match=words):
        watch.deploy()
    assert "Usage: discard.sh" in watch.scripts[-1]
    assert watch.is_unlocked
    assert not any(APPLY in script for script in watch.scripts)


@pytest.mark.parametrize(
    ("code", "stderr", "words"),
    [
        (1, "Cannot connect to the Docker daemon at unix:///x", "Docker daemon of .* stopped"),
        (137, " Image x Pulled", "was ended there by signal 9"),
    ],
)
@pytest.mark.parametrize("phase", ["stage", "pull", "role", "hashes"])
def test_what_ends_the_fetching_is_not_blamed_on_the_release(
    watched, code, stderr, words, phase
) -> None:
    watch = watched().ready()
    watch.transport.answer(Answer(code, f"== {phase}\n", stderr), containing=FETCH)
    with pytest.raises(HostNotReady, match=words):
        watch.deploy()


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        ("write /var/lib/docker/x: no space left on device", "the disk of .* is full$"),
        ("sh: 312: printf: printf: I/O error", "a disk of .*: it is full or broken"),
        ("Bind for 0.0.0.0:80 failed: port is already allocated", "a port .* is taken on"),
        ("bind source path does not exist: /mnt/x", "a directory that the stack mounts"),
    ],
)
def test_what_keeps_a_release_from_being_applied_is_blamed_on_the_host(
    watched, stderr, words
) -> None:
    watch = watched().ready()
    watch.transport.answer(Answer(1, stderr=stderr), containing=APPLY)
    with pytest.raises(HostNotReady, match=words):
        watch.deploy()


def test_a_container_that_compose_could_not_start_is_shown_with_its_log(watched) -> None:
    watch = watched().ready()
    watch.host.containers["db"]["state"] |= {"Status": "exited", "ExitCode": 3}
    watch.transport.answer(Answer(stdout=watch.host.verify_output()), containing=VERIFY)
    watch.transport.answer(Answer(stdout="== id-of-db\nFATAL: no room\n"), containing="docker logs")
    watch.transport.answer(
        Answer(1, stderr="dependency failed to start: container db exited (3)"), containing=APPLY
    )
    with pytest.raises(DeploymentFailed, match="could not bring up core"):
        watch.deploy()
    assert events.LogTail("db", ("FATAL: no room",)) in watch.events


def test_services_that_are_not_well_in_time_fail_the_deploy(watched) -> None:
    watch = watched(health_timeout_s=10).ready()
    watch.host.containers["backend"]["state"]["Health"]["Status"] = "starting"
    watch.transport.answer(Answer(stdout=watch.host.verify_output()), containing=VERIFY)
    with pytest.raises(DeploymentFailed, match=r"within 10 s: backend is starting"):
        watch.deploy()
    looks = [script for script in watch.scripts if VERIFY in script]
    assert len(looks) == 21, "every half second"


def test_a_secret_that_the_end_of_a_log_cuts_in_two_is_not_shown_in_part(watched) -> None:
    """Of a secret of many lines only the last ones may be left of what Docker gives."""
    watch = watched(health_timeout_s=1).ready()
    watch.host.containers["backend"]["state"]["Health"]["Status"] = "unhealthy"
    watch.transport.answer(Answer(stdout=watch.host.verify_output()), containing=VERIFY)
    rest_of_secret = [f"secret line {number}" for number in range(60)]
    lines = [*rest_of_secret, *(f"line {number}" for number in range(80))]
    text = "\n".join(["== id-of-backend", *lines, ""])
    watch.transport.answer(Answer(stdout=text), containing="main 140 ")
    with pytest.raises(DeploymentFailed):
        watch.deploy()
    (shown,) = [event for event in watch.events if isinstance(event, events.LogTail)]
    assert shown.lines == tuple(f"line {number}" for number in range(40, 80))
    # Not even where every line of every script is shown.
    told = [event.line for event in watch.events if isinstance(event, events.Output)]
    assert not any("secret line" in line for line in told)


def test_workers_are_well_when_the_backend_lists_them(planned, clock) -> None:
    watch = Watched(planned("workers", health_timeout_s=2), clock).ready()
    with pytest.raises(DeploymentFailed, match="is not among the backend's workers"):
        watch.deploy()


def test_a_backend_that_cannot_be_asked_from_here_is_a_warning(planned, clock) -> None:
    watch = Watched(planned("workers"), clock).ready()

    def unreachable():
        raise HostUnreachable("the backend does not answer")

    watch.runner._gate.directory = unreachable
    result = watch.deploy()
    assert "could not be asked for its workers" in result.warnings[0]


def test_what_would_be_lost_is_known_before_anything_changes(watched) -> None:
    watch = watched()
    watch.host.run_all()
    watch.host.containers["db"]["labels"]["com.docker.compose.config-hash"] = "old"
    watch.ready()
    watch.runner.prepare()
    assert "the database is restarted" in watch.runner.losses[0]
    watch.runner.abandon()
    assert not any(APPLY in script for script in watch.scripts)
    assert "Usage: discard.sh" in watch.scripts[-1], "what was staged is removed"
    assert watch.is_unlocked


def test_whoever_wants_to_stop_is_heard_before_each_step(watched) -> None:
    watch = watched().ready()
    watch.runner.prepare()
    watch.runner.stopping.set()
    result = watch.runner.carry_out()
    assert isinstance(result.error, Interrupted)
    assert not any(APPLY in script for script in watch.scripts)
    assert watch.ended()["outcome"] == "interrupted"


@pytest.mark.parametrize("containing", [APPLY, VERIFY])
def test_a_step_that_is_interrupted_is_taken_back_and_recorded(watched, containing) -> None:
    watch = watched().ready()
    watch.transport.answer(Answer(error=Interrupted("stop")), containing=containing)
    with pytest.raises(Interrupted):
        watch.deploy()
    undone = [script for script in watch.scripts if UNDO in script]
    assert len(undone) == (1 if containing == APPLY else 0), "what was applied stays"
    assert watch.ended()["outcome"] == "interrupted"


def test_a_lock_that_somebody_else_has_stops_the_deploy(watched) -> None:
    watch = watched().ready()
    note = '7 {"id":"x","who":"eve@pc","reason":"deploy of b","since":"2026-11-23T11:00:00+00:00"}'
    watch.transport.answer(Answer(75, stdout=note), containing=LOCK)
    with pytest.raises(
        Locked, match="locked by eve@pc, since 2026-11-23 11:00:00 UTC: deploy of b"
    ):
        watch.deploy()
    assert not any(FETCH in script for script in watch.scripts)


def test_a_lock_that_was_lost_before_the_change_stops_the_deploy(watched) -> None:
    watch = watched().ready()
    watch.transport.answer(Answer(74), containing=APPLY)
    with pytest.raises(Locked, match="was lost"):
        watch.deploy()
    assert watch.ended()["outcome"] == "failed"


class Released(RecordingTransport):
    """Somebody releases the lock during the first look at what was deployed."""

    def run(self, host: str, script: Secret, **more: Any) -> RemoteResult:
        self.released = self.released or VERIFY in script.reveal()
        return super().run(host, script, **more)


def test_whoever_waits_for_health_notices_that_the_lock_was_released(watched) -> None:
    watch = watched()
    watch.runner.transport = watch.transport = Released()
    watch.runner.__post_init__()
    watch.ready()
    watch.host.containers["backend"]["state"]["Health"]["Status"] = "starting"
    watch.transport.answer(Answer(stdout=watch.host.verify_output()), containing=VERIFY)
    with pytest.raises(Locked, match="was lost while this worked"):
        watch.deploy()
    assert len([script for script in watch.scripts if VERIFY in script]) == 1
    assert watch.ended()["outcome"] == "failed"


def test_a_tag_that_was_moved_is_told(watched) -> None:
    watch = watched()
    image = "ghcr.io/ktrdr/ktrdr-backend:sha-abc1234"
    before = earlier(watch.runner.plan, tag=TAG, images={image: "sha256:another"})
    watch.host.history = [before.begun(), before.ended()]
    watch.ready()
    result = watch.deploy()
    assert f"{image} is another image than in release {before.id}" in result.warnings[0]


def test_a_tag_of_a_commit_is_told_from_any_other() -> None:
    assert commit_in("sha-abc1234") == "abc1234"
    assert commit_in("latest") is None


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
def test_what_could_not_be_started_is_made_anew(watched, state, action, reason) -> None:
    watch = watched().ready()
    watch.host.containers["db"]["state"] |= state
    watch.transport.answer(Answer(stdout=watch.host.fetch_output()), containing=FETCH)
    (change,) = [each for each in watch.runner.prepare().services if each.service == "db"]
    assert (change.action, change.reason) == (action, reason)
