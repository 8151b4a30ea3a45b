"""Tests of deploys to several hosts, their history, and rollbacks."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.config import ROOT
from tests.e2e.conftest import Lab
from tests.e2e.images import SLEEPS, push_broken, push_derived
from tests.e2e.leaks import leaks_in

HOSTS = ["core", "workers B", "workers C"]


@pytest.fixture
def restored(lab: Lab) -> Iterator[Lab]:
    """Provide the lab, and deploy the checkout to all hosts afterwards."""
    yield lab
    lab.good("deploy", "all")


@pytest.fixture(scope="module")
def sick_tag(bare_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Push a tag whose programs start but never become healthy."""
    push_broken("sick", SLEEPS, tmp_path_factory.mktemp("sick"))
    return "sick"


def history(lab: Lab, *words: str) -> list[dict[str, Any]]:
    """Return the history of the first host, oldest release first."""
    found = lab.good("deploy", "history", *words, "--last", "100", "--json").json
    releases: list[dict[str, Any]] = found["hosts"][0]["releases"]
    return releases


def running(lab: Lab, key: str) -> dict[str, str]:
    """Return the ids of the running images, by service."""
    return {service: each["Image"] for service, each in lab.inspect(key).items()}


def tags(lab: Lab, key: str) -> set[str]:
    images = (each["Config"]["Image"] for each in lab.inspect(key).values())
    return {image.rpartition(":")[2] for image in images if "ktrdr-backend" in image}


def test_all_hosts_are_deployed_and_a_second_deploy_changes_nothing(lab: Lab) -> None:
    lab.good("deploy", "all")
    before = {key: lab.inspect(key) for key in ("core", "B", "C")}
    result = lab.good("deploy", "all", "--json").result
    assert [host["target"] for host in result["hosts"]] == HOSTS
    assert {host["outcome"] for host in result["hosts"]} == {"unchanged"}
    assert result["ssh"]["connections"] == 3
    for key, containers in before.items():
        started = {name: each["State"]["StartedAt"] for name, each in lab.inspect(key).items()}
        assert started == {name: each["State"]["StartedAt"] for name, each in containers.items()}


def test_events_of_several_hosts_name_their_host(lab: Lab) -> None:
    ran = lab.good("deploy", "all", "--json")
    told = {event["target"] for event in ran.events[:-1] if event["event"] == "step_finished"}
    assert told == {"", *HOSTS}
    assert ran.events[-1]["event"] == "result"
    for name in HOSTS:
        assert f"{name:<9}  ✓ lock" in ran.err or f"{name:<9}  ✓ check the host" in ran.err


def test_the_history_of_every_host_contains_user_release_and_time(lab: Lab) -> None:
    lab.good("deploy", "all", env={"KTRDR_PERFORMER": "ada@laptop"})
    found = lab.good("deploy", "history", "--json").json["hosts"]
    assert [host["target"] for host in found] == HOSTS
    for host in found:
        last = host["releases"][-1]
        assert (last["who"], last["tag"], last["kind"]) == ("ada@laptop", lab.tag, "deploy")
        assert last["outcome"] == "unchanged"
        assert all(digest.startswith("sha256:") for digest in last["images"].values())
    assert len({host["releases"][-1]["id"] for host in found}) == 1, "one deploy, one release"
    listed = lab.good("deploy", "history", "workers", "B").out
    assert "ada@laptop" in listed
    for each in lab.outputs.values():
        hidden = {name: text for name, text in lab.fields.items() if name != "db_username"}
        assert leaks_in(each, hidden) == []


def test_a_rollback_needs_neither_argument_nor_checkout(
    restored: Lab, moving_tag: str, tmp_path: Path
) -> None:
    lab = restored
    inventory = ("--inventory", str(ROOT / "deploy/inventory.yml"))
    lab.good("deploy", "workers", "B", "--tag", moving_tag)
    back = lab.good("deploy", "rollback", "workers", "B", "--json", *inventory, cwd=tmp_path)
    assert (back.on_host["kind"], back.on_host["tag"]) == ("rollback", lab.tag)
    assert tags(lab, "B") == {lab.tag}
    forth = lab.good("deploy", "rollback", "workers", "B", "--to", moving_tag, "--json").on_host
    assert forth["tag"] == moving_tag
    assert tags(lab, "B") == {moving_tag}
    assert [each["kind"] for each in history(lab, "workers", "B")[-2:]] == ["rollback"] * 2


def test_a_rollback_of_all_hosts_restores_the_previous_release_of_each(
    restored: Lab, moving_tag: str
) -> None:
    restored.good("deploy", "all", "--tag", moving_tag)
    result = restored.good("deploy", "rollback", "--json").result
    assert [host["tag"] for host in result["hosts"]] == [restored.tag] * 3
    assert {tag for key in ("core", "B", "C") for tag in tags(restored, key)} == {restored.tag}


def test_an_unknown_release_is_refused_with_the_known_ones(lab: Lab) -> None:
    ran = lab.ktrdr("deploy", "rollback", "workers", "B", "--to", "sha-0000000")
    assert ran.code == 2
    assert "has no good release 'sha-0000000'" in ran.err
    assert history(lab, "workers", "B")[-1]["id"] in ran.err


def test_a_release_that_never_becomes_healthy_is_rolled_back(restored: Lab, sick_tag: str) -> None:
    lab = restored
    deploy = ("deploy", "workers", "B", "--tag", sick_tag, "--health-timeout", "15")
    ran = lab.ktrdr(*deploy, "--json")
    assert ran.code == 8, ran.text
    assert ran.on_host["outcome"] == "failed"
    assert ran.on_host["restored"]["tag"] == lab.tag
    assert ran.on_host["restored"]["outcome"] == "deployed"
    assert "restoring" in {event["event"] for event in ran.events}
    assert "this backend sleeps" in ran.err
    assert tags(lab, "B") == {lab.tag}
    failed, back = history(lab, "workers", "B")[-2:]
    assert (failed["tag"], failed["outcome"]) == (sick_tag, "failed")
    assert (back["kind"], back["outcome"], back["of"]) == (
        *("automatic rollback", "deployed"),
        failed["id"],
    )
    result = lab.good("deploy", "workers", "B", "--json").on_host
    assert result["outcome"] == "unchanged", "the running release is healthy"


def test_no_rollback_keeps_the_failed_release(restored: Lab, sick_tag: str) -> None:
    deploy = ("deploy", "workers", "B", "--tag", sick_tag, "--health-timeout", "5")
    ran = restored.ktrdr(*deploy, "--no-rollback")
    assert ran.code == 8
    assert f"{sick_tag} failed; its changes stay in place." in ran.out
    assert tags(restored, "B") == {sick_tag}
    back = restored.good("deploy", "rollback", "workers", "B", "--json").on_host
    assert back["tag"] == restored.tag


def test_a_second_deploy_is_refused_with_the_owner_of_the_lock(
    restored: Lab, sick_tag: str
) -> None:
    lab = restored
    first = ("deploy", "workers", "C", "--tag", sick_tag, "--health-timeout", "25")
    with lab.start(*first, KTRDR_PERFORMER="eve@pc") as process:
        assert process.stdout
        read_until(process, "✓ apply")
        second = lab.ktrdr("deploy", "workers", "C")
        assert second.code == 9
        assert "workers C on workers-c" in second.err
        assert "is locked by eve@pc, since " in second.err
        assert f"deploy of {sick_tag}" in second.err
        shown = lab.good("deploy", "lock", "show", "--json").json["hosts"]
        assert {each["target"]: each["who"] for each in shown if each["held"]} == {
            "workers C": "eve@pc"
        }
        unasked = lab.ktrdr("deploy", "lock", "release", "workers", "C")
        assert unasked.code == 2
        lab.good("deploy", "lock", "release", "workers", "C", "--yes")
        output = process.stdout.read().decode()
        assert process.wait(60) in (8, 9), output
    assert "was lost while the command ran" in output, "it must not change anything more"
    assert lab.ktrdr("deploy", "watch", "workers", "C").code == 8, "the host goes back"
    assert tags(lab, "C") == {lab.tag}


def test_a_waiting_deploy_continues_after_the_first_one(restored: Lab, sick_tag: str) -> None:
    first = ("deploy", "workers", "C", "--tag", sick_tag, "--health-timeout", "5")
    with restored.start(*first) as process:
        read_until(process, "✓ apply")
        waited = restored.good("deploy", "workers", "C", "--lock-wait", "120", "--json").on_host
        assert waited["tag"] == restored.tag
        process.communicate(timeout=60)
    assert tags(restored, "C") == {restored.tag}


def read_until(process: subprocess.Popen[bytes], words: str, times: int = 1) -> str:
    """Read the output of a command until it contains words a number of times."""
    assert process.stdout
    said = b""
    for line in process.stdout:
        said += line
        if said.count(words.encode()) >= times:
            return said.decode()
    raise AssertionError(said.decode())


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_after_an_interruption_the_next_deploy_converges(
    restored: Lab, moving_tag: str, by: signal.Signals
) -> None:
    lab = restored
    with lab.start("deploy", "all", "--tag", moving_tag) as process:
        said = read_until(process, "✓ start a test container", len(HOSTS))
        time.sleep(0.3)
        process.send_signal(by)
        output, _ = process.communicate(timeout=120)
    said += output.decode()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    deploys = [each for each in history(lab, "core") if each["kind"] == "deploy"]
    assert deploys[-1]["outcome"] == "interrupted"
    result = lab.good("deploy", "all", "--tag", moving_tag, "--json").result
    for host in result["hosts"]:
        assert {service["health"] for service in host["services"]} == {"healthy"}, host
    again = lab.good("deploy", "all", "--tag", moving_tag, "--json").result
    assert again["changed"] is False


def test_a_moved_tag_is_detected_and_rolled_back_by_digest(restored: Lab, tmp_path: Path) -> None:
    lab = restored
    deploy = ("deploy", "workers", "B", "--tag", "moves", "--json")
    push_derived("moves", "LABEL number=1", tmp_path)
    lab.good(*deploy)
    first, release = running(lab, "B"), history(lab, "workers", "B")[-1]["id"]
    push_derived("moves", "LABEL number=2", tmp_path)
    second = lab.good(*deploy).on_host
    warning = f"refers to a different image than in release {release}: its tag was moved"
    assert warning in second["warnings"][0]
    assert running(lab, "B") != first
    lab.good("deploy", "rollback", "workers", "B", "--to", release)
    assert running(lab, "B") == first
