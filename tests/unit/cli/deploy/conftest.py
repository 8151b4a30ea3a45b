"""`ktrdr deploy` with hosts that answer as told."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

import pytest
from click.testing import CliRunner, Result

from ktrdr.cli.commands.deploy import deploy
from ktrdr.cli.deploy import history, lock, rollback, watch
from ktrdr.cli.hosts import HostConnections
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.errors import KtrdrError
from ktrdr.secret import Scrubber
from tests.recording_transport import Answer, RecordingTransport

CORE, B = "backend.lab.test", "workers-b.lab.test"
_Error = TypeVar("_Error", bound=KtrdrError)


class DeployCommand:
    """`ktrdr deploy`, and the hosts that it connects to.

    Attributes:
        transport: Connections to the simulated hosts.
        plans: Plans that would be run.
    """

    def __init__(self, inventory: Path) -> None:
        self.transport = RecordingTransport()
        self.plans: list[Plan] = []
        self._inventory = inventory

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(deploy, [*words, "--inventory", str(self._inventory)])

    def error_of(self, kind: type[_Error], *words: str) -> _Error:
        """Run the command, and return the error that it ends with."""
        result = self.run(*words)
        assert isinstance(result.exception, kind), result.exception
        return result.exception

    def answer(self, host: str, containing: str, *lines: str) -> None:
        self.transport.answer(Answer(stdout="\n".join(lines)), host=host, containing=containing)

    def hosts_sent(self, containing: str) -> list[str]:
        """Return the hosts that received a script with this text."""
        return [run.host for run in self.transport.runs if containing in run.script.reveal()]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DeployCommand:
    inventory = tmp_path / "inventory.yml"
    inventory.write_text("domain: lab.test\nworkers: {B: {}}\n")
    command = DeployCommand(inventory)
    transport = command.transport
    for module in (history, lock, watch):
        monkeypatch.setattr(module, "SshTransport", lambda *_: nullcontext(transport))
    connections = HostConnections(transport, Scrubber())  # type: ignore[arg-type]  # simulated
    monkeypatch.setattr(rollback, "open_connections", lambda *_, **__: nullcontext(connections))
    monkeypatch.setattr(rollback, "run_plans", lambda plans, *_: command.plans.extend(plans))
    monkeypatch.chdir(tmp_path)
    return command
