"""Commands in the container of a service."""

from __future__ import annotations

import pytest

from ktrdr.deployment.execute import RUNS, execute
from ktrdr.deployment.ssh.interface import RemoteResult
from ktrdr.errors import HostNotReady, UsageError
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.day import CORE

NOT_RUNNING = "== not running"
Heard = list[tuple[str, str]]


def run(answer: Answer, heard: Heard) -> RemoteResult:
    hosts = RecordingTransport()
    hosts.answer(answer)
    return execute(
        CORE, "db", ("true",), hosts, timeout_s=5, on_line=lambda *line: heard.append(line)
    )


def test_what_the_command_writes_and_its_exit_code_come_back() -> None:
    heard: Heard = []
    result = run(Answer(exit_code=3, stdout=f"{RUNS}\none\n{RUNS}\n", stderr="two\n"), heard)
    assert result.exit_code == 3
    assert result.stdout == f"one\n{RUNS}\n"
    assert heard == [("stdout", "one"), ("stdout", RUNS), ("stderr", "two")]


def test_secrets_of_an_environment_that_the_command_prints_are_hidden() -> None:
    heard: Heard = []
    result = run(
        Answer(stdout=f"{RUNS}\nJWT_SECRET_PREVIOUS=old one\n", stderr="DB_PASSWORD=x\n"), heard
    )
    assert (result.stdout, result.stderr) == ("JWT_SECRET_PREVIOUS=•••\n", "DB_PASSWORD=•••\n")
    assert heard == [("stdout", "JWT_SECRET_PREVIOUS=•••"), ("stderr", "DB_PASSWORD=•••")]


def test_a_service_that_does_not_run_is_refused_with_those_that_do() -> None:
    with pytest.raises(UsageError, match="did you mean dv") as refused:
        run(Answer(stdout=f"{NOT_RUNNING}\nbackend\ndv\n"), [])
    assert refused.value.hint == "Valid are: backend, dv."


def test_where_nothing_runs_that_is_said() -> None:
    with pytest.raises(UsageError, match="nothing runs on core"):
        run(Answer(stdout=f"{NOT_RUNNING}\n"), [])


def test_docker_that_is_down_is_not_taken_for_the_command_failing() -> None:
    with pytest.raises(HostNotReady):
        run(Answer(exit_code=1, stderr="Cannot connect\n"), [])
