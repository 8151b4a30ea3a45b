"""Tests of what hosts remember, of ways back, and of the next steps that status names."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import nodes
from tests.e2e.conftest import Lab, node
from tests.e2e.images import SLEEPS, push_broken

RECORDS = "/opt/ktrdr-workers-b/.ktrdr"
DEPLOY_B = ("deploy", "workers", "B")


@pytest.fixture
def healed(lab: Lab) -> Iterator[Lab]:
    """Provide the lab, and repair it afterwards with a deploy."""
    yield lab
    lab.good("deploy", "all")


@pytest.fixture(scope="module")
def sick_tag(bare_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Push a tag whose programs start but never become healthy."""
    push_broken("sick", SLEEPS, tmp_path_factory.mktemp("sick"))
    return "sick"


def remembered(lab: Lab) -> Any:
    """Return what the history of the node B says."""
    return lab.good("deploy", "history", "workers", "B", "--json").json["hosts"][0]


def states(lab: Lab) -> list[str]:
    """Return the states of the node B that need somebody."""
    (host,) = lab.ktrdr("deploy", "status", "workers", "B", "--json").json["hosts"]
    return [each["state"] for each in host["next_steps"]]


def test_everything_that_changes_a_host_is_in_its_history(healed: Lab) -> None:
    service = ("--service", "backtest-worker-1")
    healed.good("deploy", "stop", "workers", "B", *service)
    healed.good("deploy", "restart", "workers", "B", *service)
    healed.good("deploy", "prune", "workers", "B")
    healed.good("deploy", "down", "workers", "B", "--yes")
    healed.good(*DEPLOY_B, "--drain")
    done = [
        (each["kind"], each["subject"], each["outcome"]) for each in remembered(healed)["actions"]
    ]
    assert done[-4:] == [
        ("stop", "backtest-worker-1", "done"),
        ("restart", "backtest-worker-1", "done"),
        ("prune", "", "done"),
        ("down", "", "done"),
    ]


def test_a_killed_drain_is_named_by_status_and_ended_by_the_next_deploy(
    healed: Lab, moving_tag: str
) -> None:
    with healed.start(*DEPLOY_B, "--tag", moving_tag, "--drain") as process:
        assert process.stdout
        for line in process.stdout:
            if b"drain the node" in line:
                break
        process.send_signal(signal.SIGKILL)
    assert "unfinished" in states(healed)
    healed.good(*DEPLOY_B)
    assert states(healed) == []
    workers = healed.good("workers", "list", "--json").json
    assert not any(each["drain"] for each in workers)


def test_the_same_command_again_goes_back_from_what_a_killed_one_left(
    healed: Lab, sick_tag: str
) -> None:
    deploy = (*DEPLOY_B, "--tag", sick_tag, "--health-timeout", "20")
    with healed.start(*deploy) as process:
        assert process.stdout
        for line in process.stdout:
            if "✓ apply".encode() in line:
                break
        process.send_signal(signal.SIGKILL)
    ran = healed.ktrdr(*deploy, "--lock-wait", "120", "--json")
    assert ran.code == 8, ran.text
    assert ran.on_host["restored"]["outcome"] == "deployed"
    assert states(healed) == []


def test_a_lost_history_is_noticed_and_restored_from_its_copy(healed: Lab) -> None:
    healed.good(*DEPLOY_B)
    before = healed.on("B", "cat", f"{RECORDS}/history.jsonl")
    healed.on("B", "sh", "-c", f"rm -r {RECORDS}/history.jsonl {RECORDS}/releases")
    assert states(healed) == ["no way back"]
    (place,) = (
        each
        for each in healed.good("deploy", "check", "workers", "B", "--json").json["places"]
        if each["place"] == "workers B"
    )
    remarks = " ".join(each["remark"] or "" for each in place["points"])
    assert "there is no way back on workers B" in remarks
    command = remarks.partition("with `")[2].partition("`")[0]
    healed.good(*DEPLOY_B)
    assert states(healed) == [], "what runs is kept again"
    healed.on("B", "sh", "-c", command)
    restored = healed.on("B", "cat", f"{RECORDS}/history.jsonl")
    assert restored.splitlines()[:2] == before.splitlines()[:2]


def test_a_second_rollback_does_not_go_forward(healed: Lab, moving_tag: str) -> None:
    healed.good(*DEPLOY_B)
    healed.good(*DEPLOY_B, "--tag", moving_tag)
    back = healed.good("deploy", "rollback", "workers", "B")
    assert f"workers B: {healed.tag} (release " in back.err
    assert f"replaces {moving_tag} (release " in back.err
    again = healed.ktrdr("deploy", "rollback", "workers", "B", "--json")
    assert again.code == 3 or again.on_host["tag"] != moving_tag, again.text


def test_a_renamed_node_is_refused_and_keeps_its_history(lab: Lab, tmp_path: Path) -> None:
    other = "workers.B.workdir=/opt/ktrdr-workers-renamed"
    ran = lab.ktrdr(*DEPLOY_B, "--set", other)
    assert ran.code == 6, ran.text
    assert "/opt/ktrdr-workers-b, which has their lock, history and releases" in ran.err
    assert lab.ktrdr("deploy", "check", "workers", "B", "--set", other).code == 6
    lab.good(*DEPLOY_B)


def test_workers_are_refused_in_seconds_while_the_backend_is_away(healed: Lab) -> None:
    healed.good("deploy", "stop", "core", "--service", "backend")
    before = healed.inspect("B")
    began = time.monotonic()
    ran = healed.ktrdr(*DEPLOY_B)
    assert time.monotonic() - began < 15
    assert ran.code == 6, ran.text
    assert "ktrdr deploy core all" in ran.err
    assert healed.inspect("B").keys() == before.keys()
    healed.good("deploy", "all")


def test_a_host_that_is_switched_off_during_a_deploy_is_unreachable(
    healed: Lab, sick_tag: str
) -> None:
    with healed.start(*DEPLOY_B, "--tag", sick_tag, "--health-timeout", "60") as process:
        assert process.stdout
        output = b""
        for line in process.stdout:
            output += line
            if "✓ apply".encode() in line:
                nodes.kill(node("B"))
                break
        output += process.stdout.read()
        code = process.wait(120)
    healed.up()
    assert code == 5, output.decode()
    assert "was lost while the command ran" not in output.decode()
    assert b"workers-b." in output
