"""Tests of rollouts in batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Lab
from tests.e2e.images import SLEEPS, push_broken

NODES = ("deploy", "workers", "all", "--json", "--yes")


@pytest.fixture
def healed(lab: Lab) -> Iterator[Lab]:
    """Provide the lab, and repair it afterwards with a deploy."""
    yield lab
    lab.good("deploy", "all", "--yes")


def containers_of(lab: Lab, key: str) -> dict[str, str]:
    return {name: each["Id"] for name, each in lab.inspect(key).items()}


def test_a_bad_image_stops_at_the_canary(healed: Lab, tmp_path: Path) -> None:
    push_broken("sleeps", SLEEPS, tmp_path)
    before = containers_of(healed, "C")
    ran = healed.ktrdr(*NODES, "--tag", "sleeps", "--canary", "1", "--health-timeout", "5")
    assert ran.code == 8, ran.text
    assert [host["outcome"] for host in ran.result["hosts"]] == ["failed", "not begun"]
    assert ran.result["batches"] == [
        {"hosts": ["workers B"], "ok": False},
        {"hosts": ["workers C"], "ok": None},
    ]
    assert containers_of(healed, "C") == before


def test_a_good_image_is_watched_on_the_canary_first(healed: Lab, moving_tag: str) -> None:
    ran = healed.good(*NODES, "--tag", moving_tag, "--canary", "1", "--soak", "6")
    assert [batch["ok"] for batch in ran.result["batches"]] == [True, True]
    lines = [line for line in ran.events if line.get("title") == "watch for 6 s"]
    finished = [line["target"] for line in lines if line["event"] == "step_finished"]
    assert finished == ["workers B", "workers C"]


NO_BACKEND = ("DOCKER-USER", "-p", "tcp", "--dport", "8000", "-j", "DROP")


def test_hosts_that_belong_together_go_back_together(healed: Lab, moving_tag: str) -> None:
    history = healed.good("deploy", "history", "workers", "B", "--json").json
    former = history["hosts"][0]["releases"][-1]["tag"]
    healed.on("C", "iptables", "-I", *NO_BACKEND)
    try:
        ran = healed.ktrdr(
            *NODES,
            "--tag",
            moving_tag,
            "--together",
            "--batch",
            "1",
            "--soak",
            "3",
            "--health-timeout",
            "20",
        )
    finally:
        healed.on("C", "iptables", "-D", *NO_BACKEND)
    assert ran.code == 8, ran.text
    b, c = ran.result["hosts"]
    assert (b["error"]["kind"], b["restored"]["tag"]) == ("rolled-back", former)
    assert c["error"]["kind"] == "failed"
    images = {each["Config"]["Image"].rpartition(":")[2] for each in healed.inspect("B").values()}
    assert images == {former}
