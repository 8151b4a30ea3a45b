"""The lab keeps its word: quick when all is well, repaired when not, closed to the outside."""

from __future__ import annotations

import json

from lab import containers, homelab, registries
from lab.engine import docker
from lab.place import NETWORK, NODES
from lab.shell import run, wait_until
from tests.e2e.conftest import Lab


def down() -> list[str]:
    return [line.where for line in homelab.status() if not line.well]


def test_a_half_dead_lab_is_repaired(bare_lab: Lab) -> None:
    host, other, third = NODES
    run(docker(), "kill", host.container)
    run(docker(), "rm", "--force", registries.MIRROR)
    containers.execute(other.container, "sh", "-c", "touch /run/no-docker; pkill -x dockerd")
    containers.execute(third.container, "sh", "-c", "pkill -x dockerd")
    wait_until("the second host's engine is gone", lambda: len(down()) >= 3)
    bare_lab.up()
    assert down() == []
    # Left as a test found it, so that the file which keeps the engine away is gone too.
    assert containers.works_inside(other.container, "docker", "info")


def test_raising_a_running_lab_touches_nothing(bare_lab: Lab) -> None:
    def started() -> set[str]:
        ids = run(docker(), "ps", "--quiet", "--filter", f"network={NETWORK}").stdout.split()
        shown = run(docker(), "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", *ids).stdout
        return set(shown.splitlines())

    before = started()
    assert len(before) == 5
    bare_lab.up()
    assert started() == before


def test_everything_is_published_on_the_loopback_interface_alone(bare_lab: Lab) -> None:
    ids = run(docker(), "ps", "--quiet", "--filter", f"network={NETWORK}").stdout.split()
    for container in json.loads(run(docker(), "inspect", *ids).stdout):
        bindings = container["HostConfig"]["PortBindings"]
        assert bindings, container["Name"]
        for published in bindings.values():
            assert {each["HostIp"] for each in published} == {"127.0.0.1"}, container["Name"]
