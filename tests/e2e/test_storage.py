"""Tests of the shared directory: who serves it, and hosts on which it is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab import nodes
from tests.e2e.conftest import Lab, node
from tests.e2e.test_maintenance import wait_until

IN_CONTAINER = {"KTRDR_INVENTORY_CORE_NFS": "container"}
# By default, a worker without the share restarts only after 60 s.
QUICKLY = {
    "KTRDR_INVENTORY_WORKERS_B_ENVIRONMENT": json.dumps({"SHARED_RESTART_S": "5"}),
}
SHARED = "/mnt/ktrdr-shared"


def test_an_nfs_server_that_lxc_would_refuse_is_refused_before_anything_changes(lab: Lab) -> None:
    before = lab.inspect("core").keys()
    refused = lab.ktrdr("deploy", "core", "all", "--yes", env=IN_CONTAINER)
    assert refused.code == 6, refused.text
    said = " ".join(refused.err.split())
    assert "no NFS server can run here, because open_by_handle_at is refused" in said
    assert "Set `core.nfs: external` in the inventory" in said
    assert lab.inspect("core").keys() == before


@pytest.fixture
def served(lab: Lab) -> Iterator[Lab]:
    """Let the core serve the shared directory, which needs another seccomp profile than LXC's."""
    core = node("core")
    nodes.reboot(core, nodes.permit_nfs_server())
    try:
        lab.good("deploy", "core", "all", "--yes", env=IN_CONTAINER)
        yield lab
    finally:
        nodes.reboot(core)
        lab.good("deploy", "core", "all", "--yes")
        assert "nfs-server" not in lab.inspect("core")


def test_a_real_nfs_client_reads_and_writes_the_directory_that_the_core_serves(served: Lab) -> None:
    lab, export = served, "nfs://backend.ktrdr.home.mynerd.place/srv/ktrdr-shared"
    previewed = lab.ktrdr("deploy", "diff", "core", "--json")
    assert previewed.code == 10, previewed.text
    (host,) = previewed.json["hosts"]
    actions = {each["name"]: each["action"] for each in host["services"]}
    assert actions["nfs-server"] == "removed"
    refused = lab.ktrdr("deploy", "core", "all")
    assert refused.code == 2, refused.text
    assert "confirmation required" in refused.err

    lab.on("B", "sh", "-c", "echo from a client >/tmp/nfs-probe")
    lab.on("B", "nfs-cp", "/tmp/nfs-probe", f"{export}/nfs-probe?version=4")
    try:
        assert "nfs-probe" in lab.on("B", "nfs-ls", f"{export}?version=4")
        assert lab.on("core", "cat", "/srv/ktrdr-shared/nfs-probe") == "from a client\n"
        owner = lab.on("core", "stat", "-c", "%u:%g", "/srv/ktrdr-shared/nfs-probe")
        assert owner.strip() == "10001:10001"
    finally:
        lab.on("core", "rm", "-f", "/srv/ktrdr-shared/nfs-probe")
        lab.on("B", "rm", "-f", "/tmp/nfs-probe")


def workers_of_b(lab: Lab) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = lab.good("workers", "list", "--json").json
    return [each for each in listed if "workers-b" in each["endpoint_url"]]


def test_workers_that_started_before_the_mount_say_so_and_continue_once_it_is_there(
    lab: Lab,
) -> None:
    lab.good("deploy", "workers", "B", env=QUICKLY)
    containers = [each["Id"] for each in lab.inspect("B").values()]
    lab.on("B", "mount", "-t", "tmpfs", "none", SHARED)
    try:
        lab.on("B", "docker", "restart", *containers)
        wait_until(
            lambda: {each["status"] for each in workers_of_b(lab)} == {"temporarily_unavailable"},
            "the workers without the share are not ready",
            60,
        )
        for each in workers_of_b(lab):
            assert ".ktrdr-share is missing" in each["problem"]
        failed = lab.ktrdr("deploy", "workers", "B", "--health-timeout", "20", env=QUICKLY)
        assert failed.code != 0
        assert ".ktrdr-share is missing" in " ".join(failed.err.split())
    finally:
        lab.on("B", "umount", SHARED)
    wait_until(
        lambda: {each["status"] for each in workers_of_b(lab)} == {"available"},
        "the workers use the share again by themselves",
        60,
    )
    lab.good("deploy", "workers", "B")
