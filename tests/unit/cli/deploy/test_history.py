"""`ktrdr deploy history`."""

from __future__ import annotations

import json

import pytest

from ktrdr.deployment.hosts.history import DeployKind, DeployOutcome
from ktrdr.errors import HostUnreachable
from tests.recording_transport import Answer
from tests.unit.cli.deploy.conftest import CORE, B, DeployCommand
from tests.unit.deployment.histories import history_entry, history_lines


@pytest.fixture
def with_history(command: DeployCommand) -> DeployCommand:
    kind = DeployKind.AUTOMATIC_ROLLBACK
    entries = (
        history_entry(1, "sha-0000001", duration_s=12.0),
        history_entry(2, "sha-0000002", outcome=DeployOutcome.FAILED, reason="[not] healthy"),
        history_entry(3, "sha-0000001", kind=kind, service="backend", rolled_back_from="r2"),
    )
    command.answer(CORE, "Usage: read_history.sh", *history_lines(*entries))
    return command


def test_each_deploy_is_shown_with_its_user_and_outcome(with_history) -> None:
    result = with_history.run("history", "core")
    assert result.exit_code == 0
    assert "core  backend.lab.test" in result.output
    lines = [line.split() for line in result.output.splitlines() if line.startswith("r")]
    assert lines[1] == ["r1", "deploy", "sha-0000001", "ada@laptop", "deployed", "12", "s"]
    assert lines[3][1:6] == ["automatic", "rollback", "backend", "sha-0000001", "ada@laptop"]
    assert "r2: [not] healthy" in result.output


def test_only_the_last_deploys_are_shown_on_request(with_history) -> None:
    result = with_history.run("history", "core", "--last", "1", "--json")
    (host,) = json.loads(result.stdout)["hosts"]
    assert [release["id"] for release in host["releases"]] == ["r3"]
    assert (host["target"], host["host"], host["error"]) == ("core", CORE, None)


def test_an_unreachable_host_does_not_hide_the_history_of_others(with_history) -> None:
    with_history.transport.answer(Answer(error=HostUnreachable("away")), host=B)
    result = with_history.run("history", "--json")
    core, b = json.loads(result.stdout)["hosts"]
    assert len(core["releases"]) == 3
    assert (b["target"], b["error"]["kind"]) == ("workers B", "unreachable")
    assert (b["error"]["message"], b["error"]["exit_code"]) == ("away", 5)
    assert isinstance(result.exception, HostUnreachable)


def test_a_host_without_a_history_is_shown_as_empty(command) -> None:
    assert "Nothing has been deployed here yet." in command.run("history", "workers", "B").output


def test_hosts_that_a_deploy_skipped_are_shown_with_it(command: DeployCommand) -> None:
    entry = history_entry(1, skipped=("workers C",))
    command.answer(CORE, "Usage: read_history.sh", *history_lines(entry))
    assert "r1: skipped workers C" in command.run("history", "core").output
    document = json.loads(command.run("history", "core", "--json").output)
    assert document["hosts"][0]["releases"][0]["skipped"] == ["workers C"]
