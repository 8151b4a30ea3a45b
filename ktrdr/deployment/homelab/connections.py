"""Connections to PostgreSQL: how many the processes of an inventory need, and are allowed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.problems import CheckResult, Problem
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.interface import Transport

# The pool of requests, the feed of changes, and the lock of the leader.
_BACKEND: Final = 12
# While it runs an operation. An idle worker holds two.
_WORKER: Final = 4
# Migrations, backups, people, and those that PostgreSQL reserves for superusers.
_OTHERS: Final = 10
# The setting grows in large steps, because a change restarts the database.
_STEP: Final = 100
_TIMEOUT_S: Final = 30.0


def required_connections(inventory: Inventory) -> int:
    """Return the most connections that all processes hold at the same time."""
    workers = sum(sum(node.counts.values()) for node in inventory.workers.values())
    return _BACKEND + _WORKER * workers + _OTHERS


def max_connections(inventory: Inventory) -> int:
    """Return the value of ``max_connections`` for the database of an inventory."""
    return -(-required_connections(inventory) // _STEP) * _STEP


def check_connections(
    inventory: Inventory, core: Host, transport: Transport
) -> Iterator[CheckResult]:
    """Check that the database allows enough connections, if it runs."""
    script = Script("homelab/scripts/query_database.sh", (core.project, "max-connections"))
    result = transport.run(core.address, render(script, {}), timeout_s=_TIMEOUT_S)
    allowed, required = result.stdout.strip(), required_connections(inventory)
    if result.exit_code or not allowed.isdigit():
        return
    problem = Problem(
        f"the database allows {allowed} connections, but the backend and the workers of the "
        f"inventory need up to {required}",
        "Run `ktrdr deploy core db`, which restarts the database with "
        f"max_connections={max_connections(inventory)}.",
    )
    detail = f"{allowed} allowed, {required} needed"
    yield CheckResult("connections", detail, () if int(allowed) >= required else (problem,))
