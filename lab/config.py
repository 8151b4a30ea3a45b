"""Names, ports and directories of the lab, and its hosts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
# Number of the lab; several can run on this machine. Each has its own names, ports and state.
NUMBER: Final = int(os.environ.get("KTRDR_LAB_NUMBER") or 0)
_SUFFIX: Final = f"-{NUMBER}" if NUMBER else ""
_PORTS_APART: Final = 1000
# Resolved, so that checkouts that share a lab by a link use the same paths.
STATE: Final = (ROOT / f".lab{_SUFFIX}").resolve()
IMAGES: Final = ROOT / "lab" / "images"
STANDINS: Final = ROOT / "lab" / "standins"

DOMAIN: Final = "ktrdr.home.mynerd.place"
NAME: Final = f"ktrdr-lab{_SUFFIX}"
NETWORK: Final = NAME
LABEL: Final = "place.mynerd.ktrdr.lab"
SHARED_VOLUME: Final = f"{NAME}-shared"
# User of all containers of KTRDR.
UID: Final = 10001

BASE_IMAGE: Final = "ktrdr-lab/debian:bookworm"
PYTHON_IMAGE: Final = "ktrdr-lab/python:3.11"
NODE_IMAGE: Final = "ktrdr-lab/node"
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
    """A host of the lab.

    Attributes:
        key: Name in tests: core, B or C.
        container: Name of its container on this machine.
        names: DNS names.
        shared: Path of the shared directory.
        ssh_port: Port of its sshd on this machine.
        ports: Further pairs of a port on this machine and a port of the host.
        relay: ``PORT:TARGET``: a port of the host that is forwarded to a port of its loopback.
    """

    key: str
    container: str
    names: tuple[str, ...]
    shared: str
    ssh_port: int
    ports: tuple[tuple[int, int], ...] = ()
    relay: str = ""


API_PORT: Final = _port(18000)
GRAFANA_PORT: Final = _port(13000)
JAEGER_PORT: Final = _port(26686)
# Prometheus listens only on its host's loopback; the host forwards this port to it.
PROMETHEUS_PORT: Final = _port(19090)

CORE: Final = Node(
    key="core",
    container=f"{NAME}-core",
    names=tuple(f"{name}.{DOMAIN}" for name in ("backend", "postgres", "grafana", "prometheus")),
    shared="/srv/ktrdr-shared",
    ssh_port=_port(22101),
    ports=(
        (API_PORT, 8000),
        (GRAFANA_PORT, 3000),
        (JAEGER_PORT, 16686),
        (PROMETHEUS_PORT, PROMETHEUS_PORT),
    ),
    relay=f"{PROMETHEUS_PORT}:9090",
)
NODES: Final = (
    CORE,
    Node("B", f"{NAME}-b", (f"workers-b.{DOMAIN}",), "/mnt/ktrdr-shared", _port(22102)),
    Node("C", f"{NAME}-c", (f"workers-c.{DOMAIN}",), "/mnt/ktrdr-shared", _port(22103)),
)


def local_url(port: int) -> str:
    """Return the URL of a port on this machine."""
    return f"http://127.0.0.1:{port}"
