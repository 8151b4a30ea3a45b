"""A prepared homelab: requirements on its hosts, and facts about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ktrdr.deployment.homelab.hosts import select_hosts
from ktrdr.deployment.homelab.inventory import Inventory, add_defaults
from ktrdr.deployment.homelab.preparation import host_requirements
from ktrdr.deployment.prepare.plan import HostRequirements

# A bare Debian 13 in a privileged LXC container.
BARE = {
    "login": "root",
    "deployed": "",
    "os": "debian",
    "codename": "trixie",
    "os_name": "Debian GNU/Linux 13 (trixie)",
    "systemd": "yes",
    "proxmox": "",
    "container": "lxc",
    "first_uid": "0",
    "nesting": "yes",
    "devices": "yes",
    "packages": "apt base-files",
    "docker_kind": "",
    "docker": "",
    "compose": "",
    "daemon_json": "",
    "repository": "",
    "mounted": "",
    "firewall": "",
    "unattended_upgrades": "",
    "synchronised": "yes",
    "networks": "",
    "routes": "10.0.0.0/24 eth0|",
    "needed": "10.0.0.1 10.0.0.99",
    "peer backend.lab.test": "10.0.0.11",
    "peer workers-b.lab.test": "10.0.0.12 fd00::12",
    "peer workers-c.lab.test": "10.0.0.13",
}
PREPARED = {
    **BARE,
    "deployed": "yes",
    "packages": "apt ca-certificates nftables nfs-common",
    "docker": "29.0.4",
    "compose": "2.40.3",
    "daemon_json": "eyJsb2ctZHJpdmVyIjogImxvY2FsIn0=",  # {"log-driver": "local"}
    "firewall": "yes",
}


@pytest.fixture
def requirements() -> Callable[..., HostRequirements]:
    """Return the requirements on a host of an inventory with settings."""

    def build(
        *words: str, only_firewall: bool = False, nfs: str = "container", **settings: Any
    ) -> HostRequirements:
        values = {
            "domain": "lab.test",
            "core": {"nfs": nfs},
            "workers": {"B": None, "C": None},
            "prepare": settings,
        }
        inventory = Inventory.model_validate(add_defaults(values))
        (host,) = select_hosts(inventory, words)
        return host_requirements(inventory, host, only_firewall=only_firewall)

    return build
