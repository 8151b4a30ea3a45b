"""Tests of the lab: start, repair, and ports on the loopback interface only."""

from __future__ import annotations

import json

from lab import containers, lifecycle, registries
from lab.config import NETWORK, NODES
from lab.engine import docker
from lab.shell import run, wait_until
from tests.e2e.conftest import Lab


def unhealthy_parts() -> list[str]:
    return [part.address for part in lifecycle.status() if not part.is_healthy]


def test_a_broken_lab_is_repaired(bare_lab: Lab) -> None:
    host, other, third = NODES
    run(docker(), "kill", host.container)
    run(docker(), "rm", "--force", registries.MIRROR)
    containers.execute(other.container, "sh", "-c", "touch /run/no-docker; pkill -x dockerd")
    containers.execute(third.container, "sh", "-c", "pkill -x dockerd")
    wait_until("the second host's engine is gone", lambda: len(unhealthy_parts()) >= 3)
    bare_lab.up()
    assert unhealthy_parts() == []
    # The file that keeps the engine stopped must be gone too.
    assert containers.succeeds_inside(other.container, "docker", "info")


def test_starting_a_running_lab_changes_nothing(bare_lab: Lab) -> None:
    def started() -> set[str]:
        ids = run(docker(), "ps", "--quiet", "--filter", f"network={NETWORK}").stdout.split()
        shown = run(docker(), "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", *ids).stdout
        return set(shown.splitlines())

    before = started()
    assert len(before) == 5
    bare_lab.up()
    assert started() == before


def test_all_ports_are_published_only_on_the_loopback_interface(bare_lab: Lab) -> None:
    ids = run(docker(), "ps", "--quiet", "--filter", f"network={NETWORK}").stdout.split()
    for container in json.loads(run(docker(), "inspect", *ids).stdout):
        bindings = container["HostConfig"]["PortBindings"]
        assert bindings, container["Name"]
        for published in bindings.values():
            assert {each["HostIp"] for each in published} == {"127.0.0.1"}, container["Name"]
