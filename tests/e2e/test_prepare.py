"""Tests of `ktrdr host prepare`: from a bare host to a worker node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import nodes
from lab.config import BARE_NODE, CORE, ROOT
from lab.progress import Progress
from tests.e2e.conftest import Lab, node
from tests.e2e.test_maintenance import wait_until

PREPARE = ("host", "prepare", "workers", "D")
PORT = 5003


@pytest.fixture
def inventory(lab: Lab, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Start a bare host, and provide the variables of an inventory that has it as node D."""
    text = (ROOT / "deploy/inventory.yml").read_text()
    text = text.replace("\nworkers:\n", "\nworkers:\n  D: {}\n")
    text += "\nprepare:\n  docker_packages: distribution\n"
    (tmp_path / "inventory.yml").write_text(text)
    nodes.start_bare(Progress())
    yield {"KTRDR_INVENTORY": str(tmp_path / "inventory.yml")}
    nodes.remove_bare()


def reaches(key: str) -> bool:
    """Return whether a host reaches the first worker of node D."""
    url = f"http://{BARE_NODE.names[0]}:{PORT}/health"
    return nodes.succeeds_inside(node(key), "curl", "-sf", "--max-time", "3", url)


def services_run() -> bool:
    shown = nodes.execute(BARE_NODE, "docker", "ps", "--format", "{{.Status}}", check=False)
    return shown.count("(healthy)") == 2


def test_two_commands_make_a_worker_node_of_a_bare_host(
    lab: Lab, inventory: dict[str, str]
) -> None:
    shown = lab.ktrdr(*PREPARE, "--dry-run", "--json", env=inventory)
    assert shown.code == 10, shown.text
    (host,) = shown.json["hosts"]
    for part in ("install", "docker-compose (>= ", "firewall", "daemon.json", "user ktrdr"):
        assert any(part in change for change in host["changes"]), host["changes"]
    assert not nodes.succeeds_inside(BARE_NODE, "sh", "-c", "command -v docker || id ktrdr")
    refused = lab.ktrdr(*PREPARE, env=inventory)
    assert refused.code == 2, refused.text
    assert "confirmation required" in refused.err

    lab.good(*PREPARE, "--yes", env=inventory, timeout=580)
    lab.good("deploy", "workers", "D", env=inventory)
    listed = lab.good("workers", "list", "--json", env=inventory).json
    assert {each["status"] for each in listed if "workers-d" in each["endpoint_url"]} == {
        "available"
    }
    again = lab.good(*PREPARE, "--dry-run", "--json", env=inventory)
    assert again.json["hosts"][0]["changes"] == []
    # Only the core may reach the workers, before and after a reboot.
    assert (reaches("core"), reaches("B")) == (True, False)
    nodes.reboot(BARE_NODE)
    wait_until(services_run, "the services run again after a reboot", 90)
    assert (reaches("core"), reaches("B")) == (True, False)
    lab.good(*PREPARE, "--undo", "--yes", env=inventory)
    assert reaches("B")
    lab.good("deploy", "down", "workers", "D", "--yes", env=inventory)


def test_a_host_that_is_prepared_by_hand_keeps_what_it_has(lab: Lab) -> None:
    """The core's Docker and its configuration stay; only what is missing is shown."""
    shown = lab.ktrdr("host", "prepare", "core", "--dry-run", "--json")
    assert shown.code == 10, shown.text
    (host,) = shown.json["hosts"]
    changes = "\n".join(host["changes"])
    assert "docker.io" not in changes
    assert "docker-ce" not in changes
    assert CORE.shared not in changes
