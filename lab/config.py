"""Names, addresses and directories of the lab, and its hosts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
# Number of the lab; several can run on this machine. Each has its own names, network and state.
NUMBER: Final = int(os.environ.get("KTRDR_LAB_NUMBER") or 0)
_SUFFIX: Final = f"-{NUMBER}" if NUMBER else ""
_PORTS_APART: Final = 1000
# Resolved, so that checkouts that share a lab by a link use the same paths.
STATE: Final = (ROOT / f".lab{_SUFFIX}").resolve()
# File systems of the hosts. A checkout may be in a directory that is closed to unprivileged hosts.
_DATA: Final = Path("/var/lib/ktrdr-lab")
HOSTS: Final = _DATA / f"lab-{NUMBER}"
# Root file systems that all labs share.
TREES: Final = _DATA / "trees"
IMAGES: Final = ROOT / "lab" / "images"
HOST_FILES: Final = ROOT / "lab" / "host"
STANDINS: Final = ROOT / "lab" / "standins"

DOMAIN: Final = "ktrdr.home.mynerd.place"
NAME: Final = f"ktrdr-lab{_SUFFIX}"
LABEL: Final = "place.mynerd.ktrdr.lab"
# A range that Docker never takes by itself, so that the hosts' own networks cannot collide with it.
BRIDGE: Final = f"ktlab{NUMBER}"
GATEWAY: Final = f"10.77.{NUMBER}.1"
PREFIX_LENGTH: Final = 24
SHARED: Final = HOSTS / "shared"
# User of all containers of KTRDR.
UID: Final = 10001

BASE_IMAGE: Final = "ktrdr-lab/debian:trixie"
PYTHON_IMAGE: Final = "ktrdr-lab/python:3.13"
REGISTRY_IMAGE: Final = "ktrdr-lab/registry"


def _port(number: int) -> int:
    return number + NUMBER * _PORTS_APART


GHCR_PORT: Final = _port(15443)
MIRROR_PORT: Final = _port(15444)
BACKEND_REPOSITORY: Final = "ktrdr/ktrdr-backend"
NFS_REPOSITORY: Final = "ktrdr/ktrdr-nfs-server"
REGISTRY_USER: Final = "ktrdr"

VAULT: Final = "KTRDR Homelab Secrets"
ITEM: Final = "ktrdr-homelab-core"


@dataclass(frozen=True, slots=True)
class Node:
    """A host of the lab, which is an LXC container.

    Attributes:
        key: Name in tests: core, B or C.
        container: Name of the LXC container.
        names: DNS names.
        address: IPv4 address on the lab's bridge.
        shared: Path of the shared directory.
        docker: Docker Engine: ``current`` with the containerd image store, ``old`` with the
            classic one, or ``none``, which has only the packages to install it.
        is_privileged: False if its root is another user of this machine, as in Proxmox'
            unprivileged containers.
    """

    key: str
    container: str
    names: tuple[str, ...]
    address: str
    shared: str
    docker: str = "current"
    is_privileged: bool = True

    @property
    def directory(self) -> Path:
        """Return the directory of its configuration and its file systems."""
        return HOSTS / self.container


def _worker_node(key: str, last_number: int, docker: str, *, is_privileged: bool) -> Node:
    label = key.lower()
    return Node(
        key,
        f"{NAME}-{label}",
        (f"workers-{label}.{DOMAIN}",),
        f"10.77.{NUMBER}.{last_number}",
        "/mnt/ktrdr-shared",
        docker,
        is_privileged,
    )


CORE: Final = Node(
    key="core",
    container=f"{NAME}-core",
    names=tuple(f"{name}.{DOMAIN}" for name in ("backend", "postgres", "grafana", "prometheus")),
    address=f"10.77.{NUMBER}.11",
    shared="/srv/ktrdr-shared",
)
NODES: Final = (
    CORE,
    _worker_node("B", 12, "current", is_privileged=False),
    _worker_node("C", 13, "old", is_privileged=True),
)

# Host for `ktrdr host prepare`; only its test starts it.
BARE_NODE: Final = _worker_node("D", 14, "none", is_privileged=True)

API_PORT: Final = 8000
GRAFANA_PORT: Final = 3000
JAEGER_PORT: Final = 16686
# Prometheus listens only on its host's loopback; the host forwards this port to it.
PROMETHEUS_PORT: Final = 19090


def core_url(port: int) -> str:
    """Return the URL of a port of the core host."""
    return f"http://{CORE.address}:{port}"
