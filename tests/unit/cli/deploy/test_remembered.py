"""`ktrdr deploy history`, `lock` and `rollback`: what they ask hosts, and what they say."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from ktrdr.cli.commands.deploy import deploy
from ktrdr.cli.deploy import history, lock, rollback
from ktrdr.cli.deploy.connections import Way
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.hosts.history import Kind, Outcome
from ktrdr.deployment.hosts.lock import Owner
from ktrdr.deployment.releases.archive import pack_files
from ktrdr.deployment.releases.release import Release
from ktrdr.errors import HostUnreachable, KtrdrError, NotFound, UsageError
from ktrdr.secret import Scrubber
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.conftest import CORE as CORE_FILE
from tests.unit.deployment.conftest import WORKERS as WORKERS_FILE
from tests.unit.deployment.day import NOW, entry, recorded

CORE, B = "backend.lab.test", "workers-b.lab.test"
ADA = Owner("r9", "ada@laptop", "deploy of sha-abc1234", NOW)
HISTORY, SHOW, BREAK = (f"Usage: {name}.sh" for name in ("read_history", "show_lock", "break_lock"))


class Command:
    """`ktrdr deploy` with hosts that answer as told."""

    def __init__(self, inventory: Path) -> None:
        self.transport = RecordingTransport()
        self.inventory = inventory
        self.plans: list[Plan] = []

    def __call__(self, *words: str) -> Result:
        return CliRunner().invoke(deploy, [*words, "--inventory", str(self.inventory)])

    def says(self, host: str, containing: str, *lines: str) -> None:
        self.transport.answer(Answer(stdout="\n".join(lines)), host=host, containing=containing)

    def sent(self, containing: str) -> list[str]:
        return [run.host for run in self.transport.runs if containing in run.script.reveal()]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    inventory = tmp_path / "inventory.yml"
    inventory.write_text("domain: lab.test\nworkers: {B: {}}\n")
    made = Command(inventory)
    for module in (history, lock):
        monkeypatch.setattr(module, "SshTransport", lambda *_: nullcontext(made.transport))
    way = cast("Way", SimpleNamespace(transport=made.transport, scrubber=Scrubber()))
    monkeypatch.setattr(rollback, "way_to", lambda *_, **__: nullcontext(way))
    monkeypatch.setattr(rollback, "carry_out", lambda plans, *_: made.plans.extend(plans))
    monkeypatch.chdir(tmp_path)
    return made


def error_of(ran: Result, kind: type[KtrdrError]) -> KtrdrError:
    assert isinstance(ran.exception, kind), ran.exception
    return ran.exception


# --------------------------------------------------------------------------------- history


@pytest.fixture
def remembered(command: Command) -> Command:
    entries = (
        entry(1, "sha-0000001", duration_s=12.0),
        entry(2, "sha-0000002", outcome=Outcome.FAILED, reason="backend is [not] well"),
        entry(3, "sha-0000001", kind=Kind.RESTORE, service="backend", of="r2"),
    )
    command.says(CORE, HISTORY, *recorded(*entries))
    return command


def test_the_history_tells_what_was_done_by_whom_and_what_came_of_it(remembered) -> None:
    ran = remembered("history", "core")
    assert ran.exit_code == 0
    assert "core  backend.lab.test" in ran.output
    lines = [line.split() for line in ran.output.splitlines() if line.startswith("r")]
    assert lines[1] == ["r1", "deploy", "sha-0000001", "ada@laptop", "deployed", "12", "s"]
    assert lines[3][1:6] == ["automatic", "rollback", "backend", "sha-0000001", "ada@laptop"]
    assert "r2: backend is [not] well" in ran.output


def test_only_the_last_are_shown_if_so_many_are_wanted(remembered) -> None:
    ran = remembered("history", "core", "--last", "1", "--json")
    (host,) = json.loads(ran.stdout)["hosts"]
    assert [each["id"] for each in host["releases"]] == ["r3"]
    assert (host["target"], host["host"], host["error"]) == ("core", CORE, None)


def test_a_host_that_is_away_does_not_hide_the_history_of_others(remembered) -> None:
    remembered.transport.answer(Answer(error=HostUnreachable("away")), host=B)
    ran = remembered("history", "--json")
    core, b = json.loads(ran.stdout)["hosts"]
    assert len(core["releases"]) == 3
    assert (b["target"], b["error"]["kind"]) == ("workers B", "unreachable")
    assert (b["error"]["message"], b["error"]["exit_code"]) == ("away", 5)
    error_of(ran, HostUnreachable)


def test_a_host_without_a_history_says_so(command) -> None:
    assert "Nothing was deployed here yet." in command("history", "workers", "B").output


# ------------------------------------------------------------------------------------ lock


def test_a_lock_is_shown_with_who_since_when_and_what_for(command) -> None:
    command.says(CORE, SHOW, "held", f"7 {ADA.note()}")
    command.says(B, SHOW, "free")
    core, b = command("lock", "show").output.splitlines()[1:]
    assert core.split() == [
        *("core", "held", "by", "ada@laptop", "2026-11-24", "06:00:00"),
        *("deploy", "of", "sha-abc1234"),
    ]
    assert b.split() == ["workers", "B", "free"]


def test_a_lock_as_json(command) -> None:
    command.says(CORE, SHOW, "held", f"7 {ADA.note()}")
    (host,) = json.loads(command("lock", "show", "core", "--json").stdout)["hosts"]
    assert host == {
        "target": "core",
        "host": CORE,
        "held": True,
        "id": "r9",
        "who": "ada@laptop",
        "since": "2026-11-24T06:00:00+00:00",
        "reason": "deploy of sha-abc1234",
        "error": None,
    }


def test_nobodys_lock_is_released_unasked(command) -> None:
    command.says(CORE, SHOW, "held", f"7 {ADA.note()}")
    error = error_of(command("lock", "release", "core"), UsageError)
    assert "core is locked by ada@laptop" in error.message
    assert command.sent(BREAK) == []


def test_a_lock_is_released_if_that_is_confirmed(command) -> None:
    for script in (SHOW, BREAK):
        command.says(CORE, script, "held", f"7 {ADA.note()}")
    ran = command("lock", "release", "core", "--yes")
    assert "released, was held by" in ran.output
    assert command.sent(BREAK) == [CORE]


def test_a_free_lock_is_left_as_it_is(command) -> None:
    command.says(CORE, SHOW, "free")
    assert "free" in command("lock", "release", "core").output
    assert command.sent(BREAK) == []


# -------------------------------------------------------------------------------- rollback


@pytest.fixture
def kept(command: Command) -> Callable[..., Command]:
    """Hosts that keep the configurations of what they remember."""

    def make(**last: Any) -> Command:
        content = {
            "docker-compose.core.yml": CORE_FILE.encode(),
            "docker-compose.workers.yml": WORKERS_FILE.encode(),
            ".env.core": b"",
            ".env.workers": b"",
        }
        configuration = Release("x", None, content).configuration
        image = {"ghcr.io/ktrdr/ktrdr-backend:sha-0000001": "sha256:one"}
        settings = {"IMAGE_TAG": "sha-0000001", "IMAGE_NAME": "ghcr.io/ktrdr/ktrdr-backend"}
        more = {"configuration": configuration}
        first = entry(1, "sha-0000001", images=image, settings=settings, **more)
        entries = [first, entry(2, "sha-0000002", **more, **last)]
        for host in (CORE, B):
            command.says(host, HISTORY, *recorded(*entries))
        archive = base64.b64encode(pack_files(content)).decode()
        command.says(CORE, "Usage: read_configuration.sh", archive)
        command.says(B, "Usage: read_configuration.sh", archive)
        return command

    return make


def test_a_rollback_without_arguments_plans_the_release_before_for_every_host(kept) -> None:
    command = kept()
    ran = command("rollback", "--skip-validation")
    assert ran.exit_code == 0, ran.exception
    assert [plan.site.name for plan in command.plans] == ["core", "workers B"]
    for plan in command.plans:
        assert (plan.entry.kind, plan.release.tag, plan.entry.of) == (
            *(Kind.ROLLBACK, "sha-0000001"),
            "r2",
        )
        assert dict(plan.builder.pinned) == {
            "ghcr.io/ktrdr/ktrdr-backend:sha-0000001": "sha256:one"
        }


def test_what_the_last_deploy_was_not_about_is_not_gone_back_with(kept) -> None:
    command = kept(service="backend")
    command("rollback", "core", "--skip-validation")
    assert command.plans[0].service == "backend"


def test_a_release_that_is_named_comes_back_as_the_whole_that_it_was(kept) -> None:
    command = kept(service="backend")
    command("rollback", "core", "--skip-validation", "--to", "r1")
    assert command.plans[0].service == "all"


def test_a_rollback_that_is_not_to_be_had_is_told_to_programs_too(kept) -> None:
    ran = kept()("rollback", "core", "--to", "r7", "--json")
    error_of(ran, NotFound)
    told = json.loads(ran.stdout.splitlines()[-1])
    assert (told["event"], told["ok"], told["error"]["kind"]) == ("result", False, "not-found")
