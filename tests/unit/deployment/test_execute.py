"""Commands in the container of a service."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ktrdr.deployment.execute import RUNS, execute_command
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.ssh.interface import RemoteResult
from ktrdr.errors import HostNotReady, UsageError
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.sample_hosts import CORE

NOT_RUNNING = "== not running"
Lines = list[tuple[str, str]]


def run(answer: Answer, lines: Lines, host: Host = CORE) -> RemoteResult:
    transport = RecordingTransport()
    transport.answer(answer)
    return execute_command(
        host, "db", ("true",), transport, timeout_s=5, on_line=lambda *line: lines.append(line)
    )


def test_the_output_and_the_exit_code_of_the_command_are_returned() -> None:
    lines: Lines = []
    result = run(Answer(exit_code=3, stdout=f"{RUNS}\none\n{RUNS}\n", stderr="two\n"), lines)
    assert result.exit_code == 3
    assert result.stdout == f"one\n{RUNS}\n"
    assert lines == [("stdout", "one"), ("stdout", RUNS), ("stderr", "two")]


def test_secrets_in_a_printed_environment_are_hidden() -> None:
    lines: Lines = []
    result = run(
        Answer(stdout=f"{RUNS}\nJWT_SECRET_PREVIOUS=old one\n", stderr="DB_PASSWORD=x\n"), lines
    )
    assert (result.stdout, result.stderr) == ("JWT_SECRET_PREVIOUS=•••\n", "DB_PASSWORD=•••\n")
    assert lines == [("stdout", "JWT_SECRET_PREVIOUS=•••"), ("stderr", "DB_PASSWORD=•••")]


def test_further_secrets_of_the_inventory_are_hidden_by_their_names() -> None:
    lines: Lines = []
    host = replace(CORE, further_secrets=("BROKER_DSN",))
    result = run(Answer(stdout=f"{RUNS}\nBROKER_DSN=x y\n", stderr="BROKER_DSN=x\n"), lines, host)
    assert (result.stdout, result.stderr) == ("BROKER_DSN=•••\n", "BROKER_DSN=•••\n")
    assert lines == [("stdout", "BROKER_DSN=•••"), ("stderr", "BROKER_DSN=•••")]


def test_a_service_that_does_not_run_is_an_error_that_lists_those_that_do() -> None:
    with pytest.raises(UsageError, match="did you mean dv") as error:
        run(Answer(stdout=f"{NOT_RUNNING}\nbackend\ndv\n"), [])
    assert error.value.hint == "Valid names: backend, dv."


def test_a_host_where_nothing_runs_is_reported() -> None:
    with pytest.raises(UsageError, match="no service is running on core"):
        run(Answer(stdout=f"{NOT_RUNNING}\n"), [])


def test_a_failure_of_docker_is_not_taken_for_one_of_the_command() -> None:
    with pytest.raises(HostNotReady):
        run(Answer(exit_code=1, stderr="Cannot connect\n"), [])
