"""Compose file of one worker node, for what the inventory says of this node alone.

It overrides the release's compose file: it selects the workers if their numbers differ by type, and
sets limits and further variables. A node without any of these has no such file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ktrdr.deployment.homelab.inventory import WorkerNode
from ktrdr.deployment.releases.release import node_file_name

# Profile of the workers beyond the first of a type, if the numbers differ by type.
_NODE_PROFILE: Final = "node"
# Profile of the first worker of a type that the node has none of. Nothing selects it.
_LEFT_OUT: Final = "left-out"
_WORKER: Final = re.compile(r"(?P<kind>backtest|training)-worker-(?P<number>\d)")
_HEADING: Final = "# What the inventory says of this node alone; `ktrdr deploy` writes this file.\n"


def select_profiles(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Return the Compose profiles that start these numbers of workers, by type."""
    if len(set(counts.values())) > 1:
        return (_NODE_PROFILE,)
    return tuple(f"scale-{number}" for number in range(2, max(counts.values()) + 1))


def node_files(
    node: WorkerNode, counts: Mapping[str, int], services: Iterable[str]
) -> dict[str, bytes]:
    """Return the node's compose file by its name, or nothing if the node needs none.

    Args:
        node: The node.
        counts: Number of workers by type.
        services: Services of the release's compose file.
    """
    overrides = {
        match[0]: _override(node, counts, match["kind"], int(match["number"]))
        for match in filter(None, map(_WORKER.fullmatch, services))
    }
    document = {"services": {name: each for name, each in overrides.items() if each}}
    if not document["services"]:
        return {}
    # JSON is YAML that every parser reads alike, unlike plain words such as `no` or `0o17`.
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return {node_file_name("workers"): f"{_HEADING}{text}\n".encode()}


def _override(
    node: WorkerNode, counts: Mapping[str, int], kind: str, number: int
) -> dict[str, Any]:
    override: dict[str, Any] = {}
    if number > counts[kind] and number == 1:
        override["profiles"] = [_LEFT_OUT]
    elif 1 < number <= counts[kind] and _NODE_PROFILE in select_profiles(counts):
        override["profiles"] = [_NODE_PROFILE]
    if node.environment:
        # Compose replaces variables after a single dollar sign.
        values = {name: text.replace("$", "$$") for name, text in node.environment.items()}
        override["environment"] = {**values, "CHILD_VARIABLES": " ".join(values)}
    memory, cpus = getattr(node, f"{kind}_memory"), getattr(node, f"{kind}_cpus")
    limits = {"memory": memory, "cpus": cpus and f"{cpus:g}"}
    if given := {name: limit for name, limit in limits.items() if limit}:
        override["deploy"] = {"resources": {"limits": given}}
    return override
