"""`ktrdr host prepare`, with hosts that answer as told."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

import pytest
from click.testing import CliRunner, Result

from ktrdr.cli.commands import host as command_module
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.hosts.lock import LOCK_BUSY, LockOwner
from ktrdr.errors import HostNotReady, HostUnreachable, KtrdrError, Locked, UsageError
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.prepare.conftest import BARE, PREPARED
from tests.unit.deployment.sample_hosts import NOW

CORE, B = "backend.lab.test", "workers-b.lab.test"
FACTS, CHECK, APPLY = "Usage: prepare_facts.sh", "main check", "main apply"
_Error = TypeVar("_Error", bound=KtrdrError)


class HostCommand:
    """`ktrdr host prepare`, and the hosts that it connects to."""

    def __init__(self, inventory: Path) -> None:
        self.transport = RecordingTransport()
        self._inventory = inventory

    def run(self, *words: str) -> Result:
        arguments = ["prepare", *words, "--inventory", str(self._inventory)]
        return CliRunner().invoke(command_module.host, arguments)

    def error_of(self, kind: type[_Error], *words: str) -> _Error:
        result = self.run(*words)
        assert isinstance(result.exception, kind), result.exception
        return result.exception

    def is_like(self, host: str, facts: dict[str, str], *changes: str) -> None:
        """Let a host have facts, and differ in changes from what it should be."""
        output = "".join(f"{name}={value}\n" for name, value in facts.items())
        self.transport.answer(Answer(stdout=output), host=host, containing=FACTS)
        lines = "".join(f"* {change}\n" for change in changes)
        for mode in (CHECK, APPLY):
            self.transport.answer(Answer(stdout=lines), host=host, containing=mode)

    def applied(self) -> list[str]:
        return [run.host for run in self.transport.runs if APPLY in run.script.reveal()]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostCommand:
    inventory = tmp_path / "inventory.yml"
    inventory.write_text("domain: lab.test\nworkers: {B: {}, C: {}}\n")
    command = HostCommand(inventory)
    monkeypatch.setattr(command_module, "SshTransport", lambda *_: nullcontext(command.transport))
    return command


def test_a_dry_run_shows_what_would_change_and_exits_with_10(command) -> None:
    command.is_like(CORE, BARE, "install the packages nftables", "start Docker")
    result = command.run("core", "--dry-run")
    assert result.exit_code == 10
    assert "core  backend.lab.test" in result.stdout
    assert "  * install the packages nftables" in result.stdout
    assert "`features: nesting=1`" in result.stdout
    assert command.applied() == []


@pytest.mark.parametrize("words", [["core", "--dry-run"], ["core", "--yes"], ["core"]])
def test_a_prepared_host_is_left_unchanged(command, words) -> None:
    command.is_like(CORE, PREPARED)
    result = command.run(*words)
    assert (result.exit_code, "Nothing would change." in result.stdout) == (0, True)
    assert command.applied() == []


def test_nothing_changes_without_a_confirmation(command) -> None:
    command.is_like(CORE, BARE, "start Docker")
    error = command.error_of(UsageError, "core")
    assert error.message == "confirmation required: core will be changed"
    assert command.applied() == []


def test_a_confirmed_change_is_made_and_counted(command) -> None:
    command.is_like(CORE, BARE, "start Docker")
    result = command.run("core", "--yes")
    assert result.exit_code == 0
    assert "✓ core: 1 change made" in result.stdout
    assert "* start Docker" in result.stderr, "progress"
    assert command.applied() == [CORE]


def test_no_host_changes_if_one_cannot_be_prepared(command) -> None:
    command.is_like(CORE, BARE, "start Docker")
    command.is_like(B, BARE | {"docker_kind": "podman"})
    command.is_like("workers-c.lab.test", BARE, "start Docker")
    result = command.run("all", "--yes")
    assert result.exit_code == HostNotReady.exit_code
    assert "workers B on workers-b.lab.test cannot be prepared: the program docker is" in (
        result.stderr
    )
    assert command.applied() == []


def test_the_firewall_of_the_core_lets_a_new_node_in(command) -> None:
    command.is_like(B, BARE, "start Docker")
    command.is_like(CORE, PREPARED, "load the firewall rules, now and at each start")
    result = command.run("workers", "B", "--yes")
    assert result.exit_code == 0
    assert sorted(command.applied()) == [CORE, B]
    (script,) = [
        run.script.reveal()
        for run in command.transport.runs
        if run.host == CORE and APPLY in run.script.reveal()
    ]
    options = script.partition(APPLY)[2]
    assert "10.0.0.12" in options
    assert "--directory" not in options, "nothing else of the core is changed"


def test_a_core_that_cannot_be_reached_does_not_keep_a_node_from_being_prepared(command) -> None:
    command.is_like(B, BARE, "start Docker")
    command.transport.answer(Answer(error=HostUnreachable("it is off")), host=CORE)
    result = command.run("workers", "B", "--yes")
    assert result.exit_code == 0
    assert "the firewall of the core is not updated: it is off" in result.stderr
    assert command.applied() == [B]


def test_undo_changes_only_the_named_hosts(command) -> None:
    command.is_like(B, BARE, "unload the firewall rules")
    result = command.run("workers", "B", "--undo", "--yes")
    assert result.exit_code == 0
    assert {run.host for run in command.transport.runs} == {B}
    scripts = [run.script.reveal() for run in command.transport.runs]
    assert "--no-firewall" in scripts[-1]


@pytest.mark.parametrize(
    ("answer", "message", "remedy"),
    [
        (
            Answer(exit_code=1, stderr="sudo: a password is required\n"),
            "sudo: a password is required",
            "let sudo ask this user for no password",
        ),
        (
            Answer(
                exit_code=70, stderr="apt cannot install x: Depends: docker-compose (>= 2.38.0)"
            ),
            "Depends: docker-compose (>= 2.38.0)",
            "`prepare.docker_packages: docker` in the inventory",
        ),
        (
            Answer(exit_code=70, stderr="/mnt/x cannot be mounted: mount.nfs: access denied"),
            "access denied",
            "mount=nfs",
        ),
        (
            Answer(exit_code=70, stderr="/mnt/x cannot be mounted: mount.nfs: No such device"),
            "No such device",
            "modprobe nfs",
        ),
        (Answer(exit_code=100, stderr="useradd: cannot lock"), "cannot lock", "again"),
    ],
)
def test_a_failed_change_names_the_host_the_reason_and_a_remedy(
    command, answer, message, remedy
) -> None:
    command.is_like(CORE, BARE, "start Docker")
    command.transport.answer(answer, host=CORE, containing=APPLY)
    result = command.run("core", "--yes")
    assert result.exit_code == HostNotReady.exit_code
    assert "core on backend.lab.test is not prepared: " in result.stderr
    assert message in result.stderr
    assert remedy in result.stderr


def test_a_host_that_is_being_deployed_is_locked(command) -> None:
    owner = LockOwner(DeployId("r9", "ada@laptop", NOW), "deploy of sha-abc1234")
    command.is_like(CORE, PREPARED, "start Docker")
    busy = Answer(exit_code=LOCK_BUSY, stdout=f"7 {owner.to_json()}\n")
    command.transport.answer(busy, host=CORE, containing="exec 9<>")
    result = command.run("core", "--yes")
    assert result.exit_code == Locked.exit_code
    assert "is locked by ada@laptop" in result.stderr
    assert command.applied() == []


@pytest.mark.parametrize("facts", [BARE, PREPARED])
def test_a_host_with_a_stack_is_locked_meanwhile(command, facts) -> None:
    command.is_like(CORE, facts, "start Docker")
    assert command.run("core", "--yes").exit_code == 0
    locks = [run for run in command.transport.runs if "exec 9<>" in run.script.reveal()]
    assert len(locks) == (facts is PREPARED), "a bare host has no place for it yet"


def test_the_json_document_is_frozen(command) -> None:
    command.is_like(CORE, BARE | {"container": "", "synchronised": "yes"}, "start Docker")
    result = command.run("core", "--dry-run", "--json")
    assert json.loads(result.stdout) == {
        "schema": 2,
        "hosts": [
            {
                "target": "core",
                "host": CORE,
                "ok": True,
                "error": None,
                "changes": ["start Docker"],
                "notes": [],
            }
        ],
    }
