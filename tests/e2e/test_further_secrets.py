"""Tests of further secret fields of the inventory, in both modes of delivery."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import ODD, Lab
from tests.e2e.leaks import leaks_in
from tests.e2e.test_rotation import Turn, started

FIELD = "{broker_api_key: {variable: BROKER_API_KEY, stacks: [workers]}}"


@pytest.fixture
def turn(lab: Lab, tmp_path: Path) -> Iterator[Turn]:
    """Provide a vault with a further field, and deploy node B without it afterwards."""
    turning = Turn(lab, tmp_path)
    turning.to(broker_api_key=f"k3y-{secrets.token_hex(6)}{ODD}-end")
    yield turning
    lab.good("deploy", "workers", "B", "--yes")


def deploy(turn: Turn, **env: str) -> None:
    """Deploy node B with the field, from a vault that no setting names."""
    turn.env |= {
        "KTRDR_INVENTORY_SECRETS_FIELDS": FIELD,
        "KTRDR_INVENTORY_SECRETS_VAULT": "",
        **env,
    }
    turn.deploy("workers", "B")


def test_by_environment_workers_receive_the_field_and_a_changed_value_replaces_them(
    turn: Turn,
) -> None:
    lab = turn.lab
    deploy(turn)
    received = lab.environment_of("B", "backtest-worker-1")[b"BROKER_API_KEY"]
    assert received.decode() == turn.fields["broker_api_key"]
    before, core, env = started(lab, "B"), started(lab, "core"), turn.env
    assert lab.good("deploy", "diff", "workers", "B", "--secrets", env=env).out
    turn.to(broker_api_key=f"k3y-{secrets.token_hex(6)}-other")
    changed = {**env, **turn.env}
    said = lab.ktrdr("deploy", "diff", "workers", "B", "--secrets", env=changed)
    assert "its secrets" in said.out
    deploy(turn)
    after = started(lab, "B")
    assert all(before[name] != after[name] for name in before)
    assert started(lab, "core") == core
    printed = lab.good(
        "deploy", "exec", "workers", "B", "backtest-worker-1", "--", "env", env=changed
    )
    hidden = {"broker_api_key": turn.fields["broker_api_key"]}
    for output in lab.outputs.values():
        assert leaks_in(output, hidden) == []
    assert "BROKER_API_KEY=•••" in printed.out


def test_in_memory_workers_read_the_field_from_a_file(turn: Turn) -> None:
    lab = turn.lab
    deploy(turn, KTRDR_INVENTORY_SECRETS_DELIVERY="tmpfs")
    environment = lab.environment_of("B", "training-worker-1")
    assert b"BROKER_API_KEY" not in environment
    path = environment[b"BROKER_API_KEY_FILE"].decode()
    program = f"import json; print(json.dumps(open({path!r}, newline='').read()))"
    assert lab.inside("B", "training-worker-1", program) == turn.fields["broker_api_key"]
    inspected = json.dumps(lab.inspect("B"))
    assert leaks_in(inspected, {"broker_api_key": turn.fields["broker_api_key"]}) == []
    before, env = started(lab, "B"), turn.env
    turn.to(broker_api_key=f"k3y-{secrets.token_hex(6)}-other")
    deploy(turn, **{name: text for name, text in env.items() if name not in turn.env})
    assert all(before[name] != each for name, each in started(lab, "B").items())
    assert lab.inside("B", "training-worker-1", program) == turn.fields["broker_api_key"]


def test_all_fields_may_come_from_a_command(lab: Lab, tmp_path: Path) -> None:
    fields = {**lab.fields, "more": "ignored"}
    (tmp_path / "fields.json").write_text(json.dumps(fields))
    command = json.dumps(["cat", str(tmp_path / "fields.json")])
    env = {
        "KTRDR_INVENTORY_SECRETS_SOURCE": "command",
        "KTRDR_INVENTORY_SECRETS_COMMAND": command,
        "KTRDR_LAB_VAULT": str(tmp_path / "no vault"),
    }
    unchanged = lab.good("deploy", "workers", "C", "--json", env=env).result
    assert unchanged["changed"] is False
