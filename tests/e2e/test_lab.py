"""Tests of the lab: start, repair, and ports that other machines cannot reach."""

from __future__ import annotations

import json

from lab import lifecycle, nodes, registries
from lab.config import GATEWAY, NODES
from lab.engine import docker
from lab.shell import run, wait_until
from tests.e2e.conftest import Lab

REGISTRIES = (registries.GHCR, registries.MIRROR)


def unhealthy_parts() -> list[str]:
    return [part.address for part in lifecycle.status() if not part.is_healthy]


def test_a_broken_lab_is_repaired(bare_lab: Lab) -> None:
    host, other, third = NODES
    nodes.kill(host)
    run(docker(), "rm", "--force", registries.MIRROR)
    nodes.stop_docker(other)
    nodes.freeze(third)
    wait_until("three parts are gone", lambda: len(unhealthy_parts()) >= 4)
    bare_lab.up()
    assert unhealthy_parts() == []


def test_starting_a_running_lab_changes_nothing(bare_lab: Lab) -> None:
    def started() -> set[str]:
        shown = run(docker(), "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", *REGISTRIES)
        hosts = (f"{each.key} {nodes.root_of(each)}" for each in NODES)
        return {*shown.stdout.splitlines(), *hosts}

    before = started()
    assert len(before) == 5
    bare_lab.up()
    assert started() == before


def test_all_ports_are_published_only_inside_this_machine(bare_lab: Lab) -> None:
    for container in json.loads(run(docker(), "inspect", *REGISTRIES).stdout):
        bindings = container["HostConfig"]["PortBindings"]
        assert bindings, container["Name"]
        for published in bindings.values():
            addresses = {each["HostIp"] for each in published}
            assert addresses <= {"127.0.0.1", GATEWAY}, container["Name"]


def test_hosts_have_the_oldest_and_the_current_engine_and_a_stock_profile(bare_lab: Lab) -> None:
    drivers = {
        each.key: bare_lab.on(each.key, "docker", "info", "--format", "{{.Driver}}").strip()
        for each in NODES
    }
    assert drivers == {"core": "overlayfs", "B": "overlayfs", "C": "overlay2"}
    # 2: a seccomp filter applies to every process.
    assert all("Seccomp:\t2" in bare_lab.on(each.key, "cat", "/proc/1/status") for each in NODES)
