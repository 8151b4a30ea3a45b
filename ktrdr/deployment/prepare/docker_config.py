"""Docker's daemon.json: log rotation and address pools, added where it has neither."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from ipaddress import IPv4Network
from typing import Any, Final

from ktrdr.errors import HostNotReady

FILE: Final = "/etc/docker/daemon.json"
# Docker's own pools: 172.17.0.0 to 172.31.255.255, and the last one.
_DEFAULT_POOLS: Final = (
    *tuple(IPv4Network("172.16.0.0/12").subnets(new_prefix=16))[1:],
    IPv4Network("192.168.0.0/16"),
)
# Private addresses in parts for 64 networks each. Few people use the first ones.
_CANDIDATES: Final = tuple(
    pool
    for block in ("10.192.0.0/10", "172.16.0.0/12", "192.168.0.0/16")
    for pool in IPv4Network(block).subnets(new_prefix=18)
)


def complete_config(encoded: str, networks: Iterable[IPv4Network]) -> tuple[str, str]:
    """Add log rotation and address pools to a daemon.json where it has neither.

    Args:
        encoded: The file in base64; empty if there is none.
        networks: Networks and addresses that the host must reach.

    Returns:
        The content, and the added keys as ``"KEY": VALUE``, one per line.

    Raises:
        HostNotReady: The file cannot be understood, or no addresses are free.
    """
    used = tuple(networks)
    try:
        current = json.loads(base64.b64decode(encoded) or b"{}")
        driver = current.get("log-driver", "json-file")
        log_options = dict(current.get("log-opts") or {})
    except (ValueError, TypeError, AttributeError, RecursionError) as exc:
        raise HostNotReady(
            f"{FILE} is not valid, so nothing can be added to it",
            hint="Correct the file; `dockerd --validate` on the host shows where it is wrong.",
        ) from exc
    added: dict[str, Any] = {}
    if driver == "json-file" and "max-size" not in log_options:
        added["log-driver"] = driver
        added["log-opts"] = {"max-file": "5", **log_options, "max-size": "10m"}
    if "default-address-pools" not in current and any(
        pool.overlaps(network) for pool in _DEFAULT_POOLS for network in used
    ):
        free = (pool for pool in _CANDIDATES if not any(map(pool.overlaps, used)))
        if (pool := next(free, None)) is None:
            raise HostNotReady(
                "the host's routes leave no private addresses for Docker's networks",
                hint=f'Choose "default-address-pools" in {FILE} on the host.',
            )
        added["default-address-pools"] = [{"base": str(pool), "size": 24}]
    return json.dumps({**current, **added}, indent=2), "\n".join(
        f"{json.dumps(key)}: {json.dumps(value)}" for key, value in added.items()
    )
