"""Tests of deploys that hosts finish by themselves."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import nodes
from tests.e2e.conftest import Lab, node
from tests.e2e.images import SLEEPS, push_broken, push_derived
from tests.e2e.test_maintenance import wait_until
from tests.e2e.test_releases import history, read_until, tags

DEPLOY = ("deploy", "workers", "B", "--tag")


@pytest.fixture
def restored(lab: Lab) -> Iterator[Lab]:
    """Provide the lab, and deploy the checkout to the worker node afterwards."""
    yield lab
    lab.good("deploy", "workers", "B")


@pytest.fixture(scope="module")
def sick_tag(bare_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Push a tag whose programs start but never become healthy."""
    push_broken("sick", SLEEPS, tmp_path_factory.mktemp("sick"))
    return "sick"


def start_and_kill(lab: Lab, tag: str, after: str) -> None:
    """Kill a deploy after one of its steps."""
    with lab.start(*DEPLOY, tag) as process:
        read_until(process, f"✓ {after}")
        process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("after", ["start a test container", "apply"])
def test_a_host_goes_back_if_the_operator_is_killed(
    restored: Lab, sick_tag: str, after: str
) -> None:
    start_and_kill(restored, sick_tag, after)
    watched = restored.ktrdr("deploy", "watch", "workers", "B")
    assert watched.code == 8, watched.text
    assert f"deploy of {sick_tag} failed: the connection of the operator ended" in watched.out
    assert tags(restored, "B") == {restored.tag}
    failed, back = history(restored, "workers", "B")[-2:]
    assert (failed["tag"], failed["outcome"]) == (sick_tag, "failed")
    assert (back["kind"], back["outcome"]) == ("automatic rollback", "deployed")


def test_a_host_goes_back_after_a_power_cut_in_mid_apply(restored: Lab, sick_tag: str) -> None:
    with restored.start(*DEPLOY, sick_tag) as process:
        read_until(process, "✓ start a test container")
        nodes.kill(node("B"))
        process.send_signal(signal.SIGKILL)
    nodes.start(node("B"))
    wait_until(lambda: tags(restored, "B") == {restored.tag}, "the former release is back", 120)
    restored.ktrdr("deploy", "watch", "workers", "B")
    states = {each["State"]["Status"] for each in restored.inspect("B").values()}
    assert states == {"running"}


def test_a_detached_deploy_is_confirmed_by_its_host(restored: Lab, tmp_path: Path) -> None:
    push_derived("detached", "LABEL detached=1", tmp_path)
    ran = restored.good(*DEPLOY, "detached", "--detach", "--json")
    assert ran.on_host["outcome"] == "detached"
    watched = restored.good("deploy", "watch", "workers", "B")
    assert "workers B: deploy of detached deployed" in watched.out
    assert tags(restored, "B") == {"detached"}
    again = restored.good(*DEPLOY, "detached", "--json").on_host
    assert again["outcome"] == "unchanged"


def test_a_detached_deploy_that_stays_unhealthy_goes_back(restored: Lab, sick_tag: str) -> None:
    restored.good(*DEPLOY, sick_tag, "--detach", "--health-timeout", "10")
    assert restored.ktrdr("deploy", "watch", "workers", "B").code == 8
    assert tags(restored, "B") == {restored.tag}


def test_the_same_command_again_rolls_a_failed_release_back(restored: Lab, sick_tag: str) -> None:
    deploy = (*DEPLOY, sick_tag, "--health-timeout", "5")
    assert restored.ktrdr(*deploy, "--no-rollback").code == 8
    assert tags(restored, "B") == {sick_tag}
    assert restored.ktrdr(*deploy).code == 8
    assert tags(restored, "B") == {restored.tag}
