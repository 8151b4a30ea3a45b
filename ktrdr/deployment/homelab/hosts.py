"""The hosts of an inventory, and which of them a command is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ktrdr.deployment.homelab.host_config import CORE_PROJECT, WORKERS_PROJECT, unknown
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.releases.release import Target
from ktrdr.errors import UsageError


@dataclass(frozen=True, slots=True)
class Place:
    """A host, and what belongs on it.

    Attributes:
        target: Which of the two stacks.
        node: The worker node's name; empty for the core.
        host: Its name for ssh.
        workdir: Where its configuration is.
    """

    target: Target
    node: str
    host: str
    workdir: str

    @property
    def name(self) -> str:
        """What the operator calls it."""
        return f"workers {self.node}" if self.node else "core"

    @property
    def project(self) -> str:
        """The name of its Compose project."""
        return WORKERS_PROJECT if self.node else CORE_PROJECT


def places(inventory: Inventory) -> tuple[Place, ...]:
    """All hosts: the core, then the worker nodes in the inventory's order."""
    core = inventory.core
    nodes = inventory.workers.items()
    return (
        Place("core", "", core.host, core.workdir),
        *(Place("workers", name, node.host, node.workdir) for name, node in nodes),
    )


def chosen(inventory: Inventory, words: Sequence[str]) -> tuple[Place, ...]:
    """The hosts that ``core``, ``workers NODE``, ``workers all``, ``all`` or nothing name.

    Raises:
        UsageError: The words name none; the message names the valid ones.
    """
    known = places(inventory)
    match list(words):
        case [] | ["all"]:
            return known
        case ["core"]:
            return known[:1]
        case ["workers"] | ["workers", "all"]:
            return known[1:]
        case ["workers", *names]:
            return tuple(dict.fromkeys(_node(inventory, known, name) for name in names))
        case _:
            raise UsageError(
                f"{' '.join(words)!r} names no host",
                hint="Write core, workers NODE, workers all, or all.",
            )


def _node(inventory: Inventory, known: Sequence[Place], name: str) -> Place:
    for place in known[1:]:
        if place.node.lower() == name.lower():
            return place
    raise unknown("node", name, inventory.workers)
