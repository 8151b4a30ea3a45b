"""Connections to PostgreSQL: how many the processes of an inventory need, and are allowed."""

from __future__ import annotations

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
    return _BACKEND + _WORKER * _count_workers(inventory) + _OTHERS


def max_connections(inventory: Inventory) -> int:
    """Return the value of ``max_connections`` for the database of an inventory."""
    return -(-required_connections(inventory) // _STEP) * _STEP


def check_connections(inventory: Inventory, core: Host, transport: Transport) -> CheckResult | None:
    """Check that the running database allows enough connections; return None if none runs.

    TimescaleDB's image sets as few as 25 when it creates a database on a small host.
    """
    script = Script("homelab/scripts/query_database.sh", (core.project, "max-connections"))
    result = transport.run(core.address, render(script, {}), timeout_s=_TIMEOUT_S)
    allowed, required = result.stdout.strip(), required_connections(inventory)
    if result.exit_code or not allowed.isdigit():
        return None
    problem = Problem(
        f"the database allows {allowed} connections, but the backend and "
        f"{_count_workers(inventory)} workers need up to {required}",
        "Run `ktrdr deploy core db`, which restarts the database with "
        f"max_connections={max_connections(inventory)}.",
    )
    is_enough = int(allowed) >= required
    return CheckResult(
        "connections", f"{allowed} allowed, {required} needed", () if is_enough else (problem,)
    )


def _count_workers(inventory: Inventory) -> int:
    return sum(sum(node.counts.values()) for node in inventory.workers.values())
