"""One host of the inventory as a deploy sees it: what runs there, and what it is told."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.releases.release import GRAFANA, MONITORING, Release, Target
from ktrdr.errors import UsageError

# What reaches Compose as exported environment, by the names that the compose files use.
CORE_SECRETS = ("DB_USER", "DB_PASSWORD", "JWT_SECRET", "GF_ADMIN_PASSWORD")
WORKER_SECRETS = ("DB_USER", "DB_PASSWORD", "WORKER_TOKEN")
# What only the script that applies is given, by the name that core_delivery.sh knows: what
# PostgreSQL is to keep of the password.
VERIFIER = "DB_PASSWORD_VERIFIER"
CORE_DERIVED = (VERIFIER,)
CORE_PROJECT = "ktrdr-core"
WORKERS_PROJECT = "ktrdr-workers"
# The registry login: Compose reads it from the environment, so that nothing is written.
REGISTRY_LOGIN = "DOCKER_AUTH_CONFIG"
_HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Site:
    """A host to deploy to.

    Attributes:
        target: Which of the two stacks runs there.
        name: What the operator calls it.
        host: Its name for ssh.
        workdir: Where the configuration is put.
        shared_directory: What its containers share with other hosts.
        shared_is_mounted: Whether that comes from another host.
        project: The name of its Compose project.
        settings: What Compose is told that is no secret.
        secrets: The names of what it is told that is secret.
        derived: The names of what is made of those, for the script that applies alone.
        in_memory: Whether containers get their secrets as files in the host's memory.
        overlap_s: Seconds that tokens signed with a former ``jwt_secret`` are good for.
        nodes: The worker nodes, of the core alone: what uses its database and its tokens.
        scale: How many workers of each type run.
        node: The worker node's name in the inventory; empty for the core.
    """

    target: Target
    name: str
    host: str
    workdir: str
    shared_directory: str
    shared_is_mounted: bool
    project: str
    settings: tuple[tuple[str, str], ...]
    secrets: tuple[str, ...]
    derived: tuple[str, ...] = ()
    in_memory: bool = False
    overlap_s: int = 0
    nodes: tuple[str, ...] = ()
    scale: int = 1
    node: str = ""


def core(inventory: Inventory, release: Release) -> Site:
    """The core host."""
    place = inventory.core
    ports = place.ports
    return Site(
        target="core",
        name="core",
        host=place.host,
        workdir=place.workdir,
        shared_directory=place.shared_directory,
        shared_is_mounted=False,
        project=CORE_PROJECT,
        settings=(
            ("IMAGE_TAG", release.tag),
            ("IMAGE_NAME", inventory.image),
            ("NFS_IMAGE_NAME", inventory.nfs_image),
            ("SHARED_HOST_PATH", place.shared_directory),
            ("CORE_BIND_ADDRESS", place.bind_address),
            ("CORE_PUBLIC_ADDRESS", place.public_address),
            ("BACKEND_PORT", str(ports.backend)),
            ("GRAFANA_PORT", str(ports.grafana)),
            ("JAEGER_PORT", str(ports.jaeger)),
            ("OTLP_PORT", str(ports.otlp)),
            ("PROMETHEUS_PORT", str(ports.prometheus)),
            ("POSTGRES_PORT", str(ports.postgres)),
            ("NFS_PORT", str(ports.nfs)),
            # Compose does not look into mounted files; these make it see that one has changed.
            ("PROMETHEUS_CONFIG_HASH", release.digest(MONITORING, except_below=GRAFANA)),
            ("GRAFANA_CONFIG_HASH", release.digest(GRAFANA)),
        ),
        secrets=CORE_SECRETS,
        derived=CORE_DERIVED,
        in_memory=inventory.secrets.in_memory,
        overlap_s=inventory.secrets.overlap_hours * _HOUR_S,
        nodes=tuple(inventory.workers),
    )


def worker_node(inventory: Inventory, node: str, release: Release) -> Site:
    """A worker node.

    Raises:
        UsageError: The inventory has no such node.
    """
    name = next((name for name in inventory.workers if name.lower() == node.lower()), None)
    if name is None:
        raise unknown("node", node, inventory.workers)
    place = inventory.workers[name]
    core_host, ports = inventory.core.host, inventory.core.ports
    return Site(
        target="workers",
        name=f"workers {name}",
        host=place.host,
        workdir=place.workdir,
        shared_directory=place.shared_directory,
        shared_is_mounted=True,
        project=WORKERS_PROJECT,
        settings=(
            ("IMAGE_TAG", release.tag),
            ("IMAGE_NAME", inventory.image),
            ("SHARED_HOST_PATH", place.shared_directory),
            ("WORKER_HOSTNAME", place.host),
            ("WORKER_BIND_ADDRESS", place.bind_address),
            ("KTRDR_API_URL", inventory.api_url),
            ("DB_HOST", core_host),
            ("DB_PORT", str(ports.postgres)),
            ("OTLP_ENDPOINT", f"http://{core_host}:{ports.otlp}"),
        ),
        secrets=WORKER_SECRETS,
        in_memory=inventory.secrets.in_memory,
        scale=place.scale,
        node=name,
    )


def unknown(kind: str, given: str, valid: Iterable[str]) -> UsageError:
    """The error for a name that is none, with those that are and the nearest of them.

    Args:
        kind: What it would name: node, service or profile.
        given: The name.
        valid: The names there are.
    """
    names = list(valid)
    by_spelling = {name.lower(): name for name in names}
    nearest = difflib.get_close_matches(given.lower(), by_spelling, n=1, cutoff=0.5)
    guess = f"; did you mean {by_spelling[nearest[0]]}?" if nearest else ""
    return UsageError(
        f"there is no {kind} {given!r}{guess}",
        hint=f"Valid are: {', '.join(names)}." if names else f"There are no {kind}s here.",
    )
