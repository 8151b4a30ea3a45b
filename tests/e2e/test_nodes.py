"""Tests of nodes that differ, and of nodes that are off."""

from __future__ import annotations

import json

from tests.e2e.conftest import Lab

# Nothing has this name, as if the node were off.
C_IS_OFF = {"KTRDR_INVENTORY_WORKERS_C_SSH_HOST": "no-such-host.invalid"}
# The tests' environment names a tag, which would be the one that counts.
WITHOUT_TAG = {"KTRDR_DEPLOY_TAG": ""}
NODES = ("deploy", "workers", "all")


def test_a_node_that_is_off_is_skipped_and_brought_up_later(lab: Lab, moving_tag: str) -> None:
    refused = lab.ktrdr(*NODES, "--tag", moving_tag, "--json", env=C_IS_OFF)
    assert refused.code == 5, refused.text
    assert [host["outcome"] for host in refused.result["hosts"]] == ["not begun", "not begun"]

    skipped = lab.ktrdr(*NODES, "--tag", moving_tag, "--skip-unreachable", "--json", env=C_IS_OFF)
    assert skipped.code == 11, skipped.text
    assert [host["outcome"] for host in skipped.result["hosts"]] == ["deployed", "skipped"]
    assert (skipped.result["ok"], skipped.result["skipped"]) == (False, ["workers C"])
    assert "--behind" in skipped.err
    history = lab.good("deploy", "history", "workers", "B", "--json").json
    assert history["hosts"][0]["releases"][-1]["skipped"] == ["workers C"]

    still_off = lab.ktrdr(*NODES, "--behind", env=C_IS_OFF | WITHOUT_TAG)
    assert still_off.code == 5, still_off.text
    later = lab.good(*NODES, "--behind", "--json", env=WITHOUT_TAG)
    assert [(host["target"], host["tag"]) for host in later.result["hosts"]] == [
        ("workers C", moving_tag)
    ]
    again = lab.good(*NODES, "--behind", "--json", env=WITHOUT_TAG).result
    assert (again["hosts"], again["changed"]) == ([], False)
    lab.good(*NODES)


def test_a_node_with_numbers_limits_and_variables_of_its_own(lab: Lab) -> None:
    env = {
        "KTRDR_INVENTORY_WORKERS_C_TRAINING": "0",
        "KTRDR_INVENTORY_WORKERS_C_BACKTEST": "2",
        "KTRDR_INVENTORY_WORKERS_C_BACKTEST_MEMORY": "1g",
        "KTRDR_INVENTORY_WORKERS_C_BACKTEST_CPUS": "0.5",
        "KTRDR_INVENTORY_WORKERS_C_ENVIRONMENT": json.dumps({"GREETING": "it's $HOME: é"}),
    }
    previewed = lab.ktrdr("deploy", "diff", "workers", "C", "--json", env=env)
    assert previewed.code == 10, previewed.text
    (host,) = previewed.json["hosts"]
    assert {each["name"]: each["action"] for each in host["services"]} == {
        "backtest-worker-1": "recreated",
        "backtest-worker-2": "created",
        "training-worker-1": "removed",
    }
    lab.good("deploy", "workers", "C", "--yes", env=env)
    containers = lab.inspect("C")
    assert containers.keys() == {"backtest-worker-1", "backtest-worker-2"}
    for name, container in containers.items():
        assert container["HostConfig"]["Memory"] == 1024**3
        assert container["HostConfig"]["NanoCpus"] == 5 * 10**8
        environment = lab.environment_of("C", name)
        assert environment[b"GREETING"] == "it's $HOME: é".encode()
        assert environment[b"CHILD_VARIABLES"] == b"GREETING"
    lab.good("deploy", "diff", "workers", "C", env=env)
    status = lab.good("deploy", "status", "workers", "C", "--json", env=env).json["hosts"][0]
    assert (status["unwell"], status["drift"]) == ([], [])

    too_small = {**env, "KTRDR_INVENTORY_WORKERS_C_BACKTEST_MEMORY": "9999g"}
    refused = lab.ktrdr("deploy", "workers", "C", env=too_small)
    assert refused.code == 6, refused.text
    assert "2 × 9999 = 19998 GiB of memory" in " ".join(refused.err.split())

    lab.good("deploy", "workers", "C", "--yes")
    assert lab.inspect("C").keys() == {"backtest-worker-1", "training-worker-1"}
    assert "workers.yml" not in lab.on("C", "ls", "/opt/ktrdr-workers-c/deploy/node")
