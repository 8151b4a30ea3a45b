"""`ktrdr deploy history`."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from ktrdr.deployment.hosts.actions import HistoryAction
from ktrdr.deployment.hosts.history import DeployKind, DeployOutcome
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.errors import HostUnreachable
from tests.recording_transport import Answer
from tests.unit.cli.deploy.conftest import CORE, B, DeployCommand
from tests.unit.deployment.histories import FIRST_DAY, history_entry, history_lines


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
    assert lines[0][:5] == ["r1", "04:00", "deploy", "sha-0000001", "ada@laptop"]
    assert lines[0][5:] == ["deployed,", "12", "s"]
    assert lines[2][2:7] == ["automatic", "rollback", "backend", "sha-0000001", "ada@laptop"]
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


@pytest.fixture
def with_actions(command: DeployCommand) -> DeployCommand:
    stop = HistoryAction(
        DeployId("a1", "eve@pc", FIRST_DAY + timedelta(hours=1.5)), "stop", "db", DeployOutcome.DONE
    )
    first, second = (history_entry(n, also=("rotated jwt_secret",)) for n in (1, 2))
    lines = [*history_lines(first), *history_lines(second), stop.event()]
    command.answer(CORE, "Usage: read_history.sh", *lines)
    return command


def test_actions_are_shown_between_the_deploys_at_their_time(with_actions) -> None:
    lines = with_actions.run("history", "core").stdout.splitlines()[3:]
    assert [line.split()[0] for line in lines] == ["r1", "a1", "r2"]
    assert lines[1].split() == ["a1", "04:30", "stop", "db", "eve@pc", "done"]


def test_what_a_deploy_did_besides_is_shown_below(with_actions) -> None:
    assert "r1: rotated jwt_secret" in with_actions.run("history", "core").output


def test_actions_are_apart_from_releases_in_json(with_actions) -> None:
    (host,) = json.loads(with_actions.run("history", "core", "--json").stdout)["hosts"]
    assert len(host["releases"]) == 2
    assert host["actions"][0]["subject"] == "db"
