"""Docker's daemon.json: keys that it lacks, and address pools that collide with nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Network
from typing import Any, Final, NamedTuple

from ktrdr.deployment.hosts.networks import Route
from ktrdr.errors import HostNotReady

FILE: Final = "/etc/docker/daemon.json"
# Docker's own pools: 172.17.0.0 to 172.31.255.255, and these.
_DEFAULT_POOLS: Final = (
    *(IPv4Network(f"172.{second}.0.0/16") for second in range(17, 32)),
    IPv4Network("192.168.0.0/16"),
)
_CANDIDATES: Final = (
    *(f"10.{second}.0.0/16" for second in (*range(210, 250), *range(64, 210))),
    *(f"172.{second}.0.0/16" for second in range(16, 32)),
    *(f"192.168.{third}.0/20" for third in range(0, 256, 16)),
)
_POOL_SIZE: Final = 24
_LOG_OPTIONS: Final = {"log-driver", "log-opt"}


class DockerConfig(NamedTuple):
    """Content of daemon.json that a host should have.

    Attributes:
        content: The content.
        based_on: SHA-256 of the file that it adds to; ``-`` for no file.
        added: The added keys, one ``"KEY": VALUE`` per line; empty if it lacks none.
    """

    content: str
    based_on: str
    added: str


def complete_config(
    encoded: str | None, options: Collection[str], routes: Sequence[Route]
) -> DockerConfig:
    """Add log rotation and address pools to a daemon.json where it has neither.

    Args:
        encoded: The file in base64; None if there is none.
        options: Names of options on the command line of dockerd, which the file must not repeat.
        routes: Routes of the host, and addresses that it must reach.

    Raises:
        HostNotReady: The file cannot be understood, or no addresses are free.
    """
    raw, current = _parse(encoded or "")
    added: dict[str, Any] = {}
    log_options = current.get("log-opts") or {}
    driver = current.get("log-driver", "json-file")
    if driver == "json-file" and "max-size" not in log_options and not _LOG_OPTIONS & set(options):
        added["log-driver"] = driver
        added["log-opts"] = {"max-file": "5", **log_options, "max-size": "10m"}
    has_pools = "default-address-pools" in current or "default-address-pool" in options
    if not has_pools and any(_overlaps(pool, routes) for pool in _DEFAULT_POOLS):
        added["default-address-pools"] = [{"base": str(_free_pool(routes)), "size": _POOL_SIZE}]
    return DockerConfig(
        json.dumps({**current, **added}, indent=2),
        "-" if encoded is None else hashlib.sha256(raw).hexdigest(),
        "\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in added.items()),
    )


def _parse(encoded: str) -> tuple[bytes, Mapping[str, Any]]:
    raw = b""
    try:
        raw = base64.b64decode(encoded, validate=True)
        document = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("log-opts") or {}, dict):
        raise HostNotReady(
            f"{FILE} is not valid, so nothing can be added to it",
            hint="Correct the file; `dockerd --validate` on the host shows where it is wrong.",
        )
    return raw, document


def _free_pool(routes: Sequence[Route]) -> IPv4Network:
    for network in map(IPv4Network, _CANDIDATES):
        if not _overlaps(network, routes):
            return network
    raise HostNotReady(
        "the host's routes leave no private addresses for Docker's networks",
        hint=f'Choose "default-address-pools" in {FILE} on the host.',
    )


def _overlaps(network: IPv4Network, routes: Sequence[Route]) -> bool:
    return any(network.overlaps(route.network) for route in routes)
