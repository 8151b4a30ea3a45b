"""The runner: step by step, undoing what it must, and saying what has come of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ktrdr.deployment import events
from ktrdr.deployment.compare import Action
from ktrdr.deployment.release import commit_in
from ktrdr.deployment.run import Runner
from ktrdr.deployment.transport.recording import Answer, RecordingTransport
from ktrdr.errors import (
    DeploymentFailed,
    HostNotReady,
    HostUnreachable,
    ImageError,
    Interrupted,
    UsageError,
)
from ktrdr.secret import Secret
from tests.unit.deployment.conftest import Host

SECRETS = {
    name: Secret(f"value-of-{name.lower()}")
    for name in (
        *("DB_USER", "DB_PASSWORD", "JWT_SECRET", "GF_ADMIN_PASSWORD"),
        *("WORKER_TOKEN", "DOCKER_AUTH_CONFIG", "DB_PASSWORD_VERIFIER"),
    )
}
CHECK, FETCH, APPLY, VERIFY, UNDO = (
    "fact clock",
    "config --hash",
    "up --detach",
    "echo '== clock'",
    "rm -rf",
)


class Watched:
    """A runner with a transport that answers, and all that it told."""

    def __init__(self, plan: Any, clock: Any, known: Any = ()) -> None:
        self.transport = RecordingTransport()
        self.events: list[Any] = []
        self.asked: list[Any] = []
        self.runner = Runner(
            plan,
            SECRETS,
            self.transport,
            self.events.append,
            self.asked.extend,
            lambda: known,
            clock,
        )
        self.host = Host(plan)

    def ready(self) -> Watched:
        """A host that has nothing yet, and everything once something was applied."""
        self.transport.answer(Answer(stdout=self.host.check_output()), containing=CHECK)
        self.transport.answer(Answer(stdout=self.host.fetch_output()), containing=FETCH)
        self.host.run_all()
        self.transport.answer(Answer(stdout=self.host.verify_output()), containing=VERIFY)
        return self

    @property
    def scripts(self) -> list[str]:
        return [run.script.reveal() for run in self.transport.runs]


@pytest.fixture
def watched(planned, clock) -> Callable[..., Watched]:
    def make(target="core", **asked: Any) -> Watched:
        return Watched(planned(target, **asked), clock)

    return make


def test_a_deploy_checks_fetches_applies_and_waits_in_this_order(watched) -> None:
    watch = watched().ready()
    result = watch.runner.run()
    assert [CHECK in watch.scripts[0], FETCH in watch.scripts[1]] == [True, True]
    assert [APPLY in watch.scripts[2], VERIFY in watch.scripts[3]] == [True, True]
    assert result.changed
    assert {state.change.action for state in result.services} == {Action.CREATED}
    assert (result.connections, result.scripts) == (1, 4)


def test_secrets_are_in_the_scripts_that_need_them_and_in_no_other(watched) -> None:
    watch = watched().ready()
    watch.runner.run()
    check, fetch, apply, verify = watch.scripts
    for script, names in (
        (check, set()),
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
    result = watch.runner.run()
    assert not result.changed
    assert not any(APPLY in script for script in watch.scripts)
    assert events.StepSkipped("apply", "nothing to do") in watch.events


def test_a_host_that_is_not_ready_is_not_touched(watched) -> None:
    watch = watched()
    watch.host.facts["docker"] = "down"
    watch.ready()
    with pytest.raises(HostNotReady, match="Docker daemon does not run"):
        watch.runner.run()
    assert len(watch.scripts) == 1


def test_without_validation_the_host_is_not_looked_at_first(watched) -> None:
    watch = watched(skip_validation=True).ready()
    watch.runner.run()
    assert not any(CHECK in script for script in watch.scripts)
    assert events.StepSkipped("check the host", "--skip-validation") in watch.events


@pytest.mark.parametrize(
    ("stderr", "kind", "words"),
    [
        ("error from registry: unauthorized", ImageError, "refuses the login"),
        ("manifest unknown: manifest unknown", ImageError, "is not in the registry"),
        ("dial tcp: lookup ghcr.io: no such host", ImageError, "cannot reach the registry"),
        ("write /var/lib/docker/x: no space left on device", HostNotReady, "disk of"),
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
        watch.runner.run()
    assert "rm -rf /opt/ktrdr-core/.ktrdr-staging" in watch.scripts[-1]
    assert not any(APPLY in script for script in watch.scripts)


def test_a_container_that_compose_could_not_start_is_shown_with_its_log(watched) -> None:
    watch = watched().ready()
    watch.host.containers["db"]["state"] |= {"Status": "exited", "ExitCode": 3}
    watch.transport.answer(Answer(stdout=watch.host.verify_output()), containing=VERIFY)
    watch.transport.answer(Answer(stdout="== id-of-db\nFATAL: no room\n"), containing="docker logs")
    watch.transport.answer(
        Answer(1, stderr="dependency failed to start: container db exited (3)"), containing=APPLY
    )
    with pytest.raises(DeploymentFailed, match="could not bring up core"):
        watch.runner.run()
    assert events.LogTail("db", ("FATAL: no room",)) in watch.events


def test_services_that_are_not_well_in_time_fail_the_deploy(watched) -> None:
    watch = watched(health_timeout_s=10).ready()
    watch.host.containers["backend"]["state"]["Health"]["Status"] = "starting"
    watch.transport.answer(Answer(stdout=watch.host.verify_output()), containing=VERIFY)
    with pytest.raises(DeploymentFailed, match=r"within 10 s: backend is starting"):
        watch.runner.run()
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
    watch.transport.answer(Answer(stdout=text), containing="docker logs --tail 140")
    with pytest.raises(DeploymentFailed):
        watch.runner.run()
    (shown,) = [event for event in watch.events if isinstance(event, events.LogTail)]
    assert shown.lines == tuple(f"line {number}" for number in range(40, 80))
    # Not even where every line of every script is shown.
    told = [event.line for event in watch.events if isinstance(event, events.Output)]
    assert not any("secret line" in line for line in told)


def test_workers_are_well_when_the_backend_lists_them(planned, clock) -> None:
    watch = Watched(planned("workers", health_timeout_s=2), clock).ready()
    with pytest.raises(DeploymentFailed, match="is not among the backend's workers"):
        watch.runner.run()


def test_a_backend_that_cannot_be_asked_from_here_is_a_warning(planned, clock) -> None:
    watch = Watched(planned("workers"), clock).ready()

    def unreachable():
        raise HostUnreachable("the backend does not answer")

    watch.runner._gate.directory = unreachable
    result = watch.runner.run()
    assert "could not be asked for its workers" in result.warnings[0]


def test_what_would_be_lost_is_asked_for_before_anything_changes(watched) -> None:
    watch = watched()
    watch.host.run_all()
    watch.host.containers["db"]["labels"]["com.docker.compose.config-hash"] = "old"
    watch.ready()

    def disagree(losses):
        raise UsageError("no")

    watch.runner.agree = disagree
    with pytest.raises(UsageError):
        watch.runner.run()
    assert not any(APPLY in script for script in watch.scripts)
    assert "rm -rf" in watch.scripts[-1], "what was staged is removed"


@pytest.mark.parametrize("containing", [CHECK, FETCH, APPLY, VERIFY])
def test_ctrl_c_in_any_step_takes_back_and_says_so(watched, containing) -> None:
    watch = watched().ready()
    sent = watch.transport.run

    def interrupted(host, script, **more):
        if containing in script.reveal():
            watch.transport.run = sent
            raise KeyboardInterrupt
        return sent(host, script, **more)

    watch.transport.run = interrupted
    with pytest.raises(Interrupted, match="the deploy of core was interrupted"):
        watch.runner.run()
    undone = [script for script in watch.scripts if "rm -rf /opt" in script and FETCH not in script]
    if containing in (FETCH, APPLY):
        assert undone


def test_a_tag_of_a_commit_is_told_from_any_other() -> None:
    assert commit_in("sha-abc1234") == "abc1234"
    assert commit_in("latest") is None
