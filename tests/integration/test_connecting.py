"""Connections that are opened ahead of the first script, on a real server."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from ktrdr.cli.hosts import open_connections
from ktrdr.deployment.homelab import inventory_file
from ktrdr.deployment.homelab.inventory import Inventory
from tests.integration.remote import run
from tests.integration.sshd import Sshd, wait_until


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    file = tmp_path / "inventory.yml"
    file.write_text("domain: lab.test\nworkers: {B: {}}\n")
    return inventory_file.load_inventory(file, shown_as="inventory.yml", environ={}, settings=())


@pytest.fixture(autouse=True)
def configured(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KTRDR_SSH_CONFIG", str(sshd.client_config()))


def test_a_host_is_connected_before_its_first_script(inventory: Inventory) -> None:
    with open_connections(["node"], inventory, parallel=2) as connections:
        wait_until(lambda: connections.transport.connections == 1, "it is connected to")
        assert connections.transport.scripts == 0
        assert run(connections.transport, "echo here") == "here\n"
        assert connections.transport.connections == 1


def test_a_common_jump_host_refuses_no_login(
    tmp_path: Path, inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default, sshd begins to refuse logins at random when ten others are under way."""
    server = Sshd(tmp_path)
    server.start("MaxStartups 10:100:10")
    # Each login takes its time.
    slowly = f"exec 3<>/dev/tcp/127.0.0.1/{server.port}; sleep 0.3; cat <&3 & exec cat >&3"
    config = server.client_config("slow", ProxyCommand=f"bash -c '{slowly}'")
    monkeypatch.setenv("KTRDR_SSH_CONFIG", str(config))
    try:
        hosts = [f"node-{number}" for number in range(30)]
        with open_connections(hosts, inventory, parallel=len(hosts)) as connections:
            wait_until(
                lambda: connections.transport.connections == len(hosts), "all are connected to"
            )
    finally:
        server.stop()
    assert "MaxStartups" not in (tmp_path / "sshd.log").read_text()


def test_the_end_of_a_command_does_not_wait_for_a_silent_host(
    sshd: Sshd, inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = sshd.client_config("silent", Port=str(silent.getsockname()[1]))
        monkeypatch.setenv("KTRDR_SSH_CONFIG", str(config))
        before = set(threading.enumerate())
        with open_connections(["node"], inventory, parallel=2):
            peer, _ = silent.accept()
            began = time.monotonic()
        with peer:
            wait_until(lambda: set(threading.enumerate()) <= before, "no thread connects any more")
        # It would have been given up after 10 s.
        assert time.monotonic() - began < 8
