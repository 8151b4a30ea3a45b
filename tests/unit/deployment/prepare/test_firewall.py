"""Firewall rules of a prepared host against real packets, in network namespaces.

A host publishes the port of a container, as Docker does, to a peer and to a stranger.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from ktrdr.deployment.prepare.plan import make_preparation
from tests.unit.deployment.prepare.conftest import BARE

PORT: Final = 5003
ADDRESSES: Final = {"peer": "10.99.1", "stranger": "10.99.2", "container": "172.30.0"}
# What Docker does with a published port, before any filter of the operator.
DOCKER: Final = f"""
table ip docker {{
    chain prerouting {{
        type nat hook prerouting priority dstnat;
        fib daddr type local tcp dport {PORT} dnat to {ADDRESSES["container"]}.2:{PORT}
    }}
}}
"""
SERVER: Final = f"""
import socket
server = socket.create_server(("", {PORT}))
while True:
    server.accept()[0].close()
"""


class Network:
    """A host in the middle, and three machines around it with one address each."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.pids = {name: self._start_namespace() for name in ("host", *ADDRESSES)}
        for name in self.pids:
            self.run(name, "ip", "link", "set", "lo", "up")
        self.run("host", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for name, prefix in ADDRESSES.items():
            peer = ("peer", "name", "eth0", "netns", str(self.pids[name]))
            self.run("host", "ip", "link", "add", f"to-{name}", "type", "veth", *peer)
            self.run("host", "ip", "address", "add", f"{prefix}.1/24", "dev", f"to-{name}")
            self.run("host", "ip", "link", "set", f"to-{name}", "up")
            self.run(name, "ip", "address", "add", f"{prefix}.2/24", "dev", "eth0")
            self.run(name, "ip", "link", "set", "eth0", "up")
            self.run(name, "ip", "route", "add", "default", "via", f"{prefix}.1")
        self.load(DOCKER)

    def run(self, name: str, *command: str, stdin: str = "") -> None:
        subprocess.run([*self._enter(name), *command], input=stdin, text=True, check=True)

    def load(self, rules: str) -> None:
        self.run("host", "nft", "-f", "-", stdin=rules)

    def serve(self, name: str) -> None:
        """Start a server, and wait until it answers."""
        self._start([*self._enter(name), "python3", "-c", SERVER])
        for _ in range(500):
            if self.reaches(name, "127.0.0.1"):
                return
            time.sleep(0.02)
        pytest.fail(f"the server of the {name} does not answer")

    def reaches(self, name: str, address: str) -> bool:
        connect = ["bash", "-c", f": </dev/tcp/{address}/{PORT}"]
        command = [*self._enter(name), "timeout", "1", *connect]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _start_namespace(self) -> int:
        pid = self._start(["unshare", "--net", "sleep", "60"])
        own = Path("/proc/self/ns/net").readlink()
        while Path(f"/proc/{pid}/ns/net").readlink() == own:
            time.sleep(0.01)
        return pid

    def _start(self, command: list[str]) -> int:
        process = subprocess.Popen(command)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process.pid

    def _enter(self, name: str) -> list[str]:
        return ["nsenter", "--target", str(self.pids[name]), "--net"]


@pytest.fixture
def network() -> Iterator[Network]:
    if os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("ip"):
        pytest.skip("needs root, nftables and iproute2")
    with ExitStack() as stack:
        yield Network(stack)


def test_only_the_named_peers_reach_a_port_that_docker_publishes(
    network: Network, requirements
) -> None:
    def rules_for(peer: str) -> str:
        facts = BARE | {"peer backend.lab.test": f"{ADDRESSES[peer]}.2"}
        arguments = make_preparation(requirements("workers", "B"), facts).arguments
        return arguments[arguments.index("--firewall") + 1]

    network.serve("container")
    near_peer, near_stranger = f"{ADDRESSES['peer']}.1", f"{ADDRESSES['stranger']}.1"
    assert network.reaches("peer", near_peer)
    assert network.reaches("stranger", near_stranger)

    network.load(rules_for("peer"))

    assert network.reaches("peer", near_peer)
    assert not network.reaches("stranger", near_stranger)
    assert not network.reaches("stranger", near_peer), "nor by another address of the host"
    # Containers may connect to the same port of other machines.
    network.serve("stranger")
    assert network.reaches("container", f"{ADDRESSES['stranger']}.2")

    network.load(rules_for("stranger"))

    assert network.reaches("stranger", near_stranger)
    assert not network.reaches("peer", near_peer), "the former rules are gone"
