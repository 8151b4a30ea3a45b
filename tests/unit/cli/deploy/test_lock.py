"""`ktrdr deploy lock`."""

from __future__ import annotations

import json

from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.hosts.lock import LockOwner
from ktrdr.errors import UsageError
from tests.unit.cli.deploy.conftest import CORE, B
from tests.unit.deployment.sample_hosts import NOW

ADA = LockOwner(DeployId("r9", "ada@laptop", NOW), "deploy of sha-abc1234")
HELD = ("held", f"7 {ADA.to_json()}")
SHOW, BREAK = "Usage: show_lock.sh", "Usage: break_lock.sh"


def test_a_lock_is_shown_with_its_owner_since_when_and_why(command) -> None:
    command.answer(CORE, SHOW, *HELD)
    command.answer(B, SHOW, "free")
    core, b = command.run("lock", "show").output.splitlines()[1:]
    assert core.split() == [
        *("core", "held", "ada@laptop", "2026-11-24", "06:00:00"),
        *("deploy", "of", "sha-abc1234"),
    ]
    assert b.split() == ["workers", "B", "free"]


def test_the_json_document_of_a_lock_is_frozen(command) -> None:
    command.answer(CORE, SHOW, *HELD)
    (host,) = json.loads(command.run("lock", "show", "core", "--json").stdout)["hosts"]
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


def test_a_held_lock_is_not_released_without_confirmation(command) -> None:
    command.answer(CORE, SHOW, *HELD)
    error = command.error_of(UsageError, "lock", "release", "core")
    assert "confirmation required: core is locked by ada@laptop" in error.message
    assert command.hosts_sent(BREAK) == []


def test_a_held_lock_is_released_after_confirmation(command) -> None:
    for script in (SHOW, BREAK):
        command.answer(CORE, script, *HELD)
    (core,) = command.run("lock", "release", "core", "--yes").output.splitlines()[1:]
    assert core.split()[:3] == ["core", "released", "ada@laptop"]
    assert command.hosts_sent(BREAK) == [CORE]
    assert command.hosts_sent('"reason":"held by ada@laptop, since') == [CORE]


def test_a_free_lock_is_left_unchanged(command) -> None:
    command.answer(CORE, SHOW, "free")
    assert "free" in command.run("lock", "release", "core").output
    assert command.hosts_sent(BREAK) == []
