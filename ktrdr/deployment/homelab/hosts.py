"""Hosts of an inventory: their selection by name, and the configuration of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.hosts.host import Host, HostConfig, unknown_name_error
from ktrdr.deployment.releases.release import GRAFANA, MONITORING, Release
from ktrdr.errors import UsageError
from ktrdr.tokens import CLOCK_LEEWAY

CORE_PROJECT: Final = "ktrdr-core"
WORKERS_PROJECT: Final = "ktrdr-workers"
# Variables of the compose files that are secret.
CORE_SECRETS: Final = ("DB_USER", "DB_PASSWORD", "JWT_SECRET", "GF_ADMIN_PASSWORD")
WORKER_SECRETS: Final = ("DB_USER", "DB_PASSWORD", "WORKER_TOKEN")
# What PostgreSQL stores of the password; only the script that applies a release receives it.
VERIFIER: Final = "DB_PASSWORD_VERIFIER"
# Service that exports the shared directory, and the profile that starts it.
NFS_SERVER: Final = "nfs-server"
NFS_PROFILE: Final = "nfs"
# User that the programs of our image run as.
CONTAINER_UID: Final = 10001
# Directory for secrets in the memory of hosts; deploy/tmpfs mounts directories below it.
SECRETS_ROOT: Final = "/run/ktrdr"


def all_hosts(inventory: Inventory) -> tuple[Host, ...]:
    """Return all hosts: the core, then the worker nodes in the inventory's order."""
    core = Host(
        name="core",
        address=inventory.core.host,
        workdir=inventory.core.workdir,
        stack="core",
        project=CORE_PROJECT,
        secrets_directory=f"{SECRETS_ROOT}/{CORE_PROJECT}",
        managed_directory=MONITORING.rstrip("/"),
    )
    nodes = (
        Host(
            name=f"workers {name}",
            address=node.host,
            workdir=node.workdir,
            stack="workers",
            project=WORKERS_PROJECT,
            secrets_directory=f"{SECRETS_ROOT}/{WORKERS_PROJECT}",
            node=name,
        )
        for name, node in inventory.workers.items()
    )
    return (core, *nodes)


def select_hosts(inventory: Inventory, words: Sequence[str]) -> tuple[Host, ...]:
    """Return the hosts that ``core``, ``workers NODE``, ``workers all``, ``all`` or nothing name.

    Raises:
        UsageError: The words name no host; the message lists the valid names.
    """
    core, *workers = all_hosts(inventory)
    match list(words):
        case [] | ["all"]:
            return (core, *workers)
        case ["core"]:
            return (core,)
        case ["workers"] | ["workers", "all"]:
            return tuple(workers)
        case ["workers", *names]:
            return tuple(dict.fromkeys(_find_node(workers, name) for name in names))
        case _:
            raise UsageError(
                f"{' '.join(words)!r} does not name a host",
                hint="Use core, workers NODE, workers all, or all.",
            )


def _find_node(workers: Sequence[Host], name: str) -> Host:
    for host in workers:
        if host.node.lower() == name.lower():
            return host
    raise unknown_name_error("node", name, [host.node for host in workers])


def configure_core(inventory: Inventory, host: Host, release: Release) -> HostConfig:
    """Return the configuration of the core host for a release."""
    core, ports = inventory.core, inventory.core.ports
    is_external = core.nfs == "external"
    profiles = () if is_external else (NFS_PROFILE,)
    return HostConfig(
        host=host,
        settings=(
            ("IMAGE_TAG", release.tag),
            ("IMAGE_NAME", inventory.image),
            ("NFS_IMAGE_NAME", inventory.nfs_image),
            ("SHARED_HOST_PATH", core.shared_directory),
            ("CORE_BIND_ADDRESS", core.bind_address),
            ("CORE_PUBLIC_ADDRESS", core.public_address),
            ("BACKEND_PORT", str(ports.backend)),
            ("GRAFANA_PORT", str(ports.grafana)),
            ("JAEGER_PORT", str(ports.jaeger)),
            ("OTLP_PORT", str(ports.otlp)),
            ("PROMETHEUS_PORT", str(ports.prometheus)),
            ("POSTGRES_PORT", str(ports.postgres)),
            ("NFS_PORT", str(ports.nfs)),
            ("COMPOSE_PROFILES", ",".join(profiles)),
            # Compose does not read mounted files. These hashes change if one of them changes.
            ("PROMETHEUS_CONFIG_HASH", release.digest(MONITORING, except_below=GRAFANA)),
            ("GRAFANA_CONFIG_HASH", release.digest(GRAFANA)),
        ),
        secrets=CORE_SECRETS,
        apply_secrets=(VERIFIER,),
        shared_directory=core.shared_directory,
        is_share_mounted=is_external,
        is_share_external=is_external,
        container_uid=CONTAINER_UID,
        secrets_in_memory=inventory.secrets.in_memory,
        scale_profiles=profiles,
        unwanted=((NFS_SERVER, "core.nfs is external"),) if is_external else (),
        max_clock_skew_s=CLOCK_LEEWAY.total_seconds(),
        rank=0,
    )


def configure_workers(inventory: Inventory, host: Host, release: Release) -> HostConfig:
    """Return the configuration of a worker node for a release."""
    node, core_host, ports = (
        inventory.workers[host.node],
        inventory.core.host,
        inventory.core.ports,
    )
    return HostConfig(
        host=host,
        settings=(
            ("IMAGE_TAG", release.tag),
            ("IMAGE_NAME", inventory.image),
            ("SHARED_HOST_PATH", node.shared_directory),
            ("WORKER_HOSTNAME", node.host),
            ("WORKER_BIND_ADDRESS", node.bind_address),
            ("KTRDR_API_URL", inventory.api_url),
            ("DB_HOST", core_host),
            ("DB_PORT", str(ports.postgres)),
            ("OTLP_ENDPOINT", f"http://{core_host}:{ports.otlp}"),
        ),
        secrets=WORKER_SECRETS,
        apply_secrets=(),
        shared_directory=node.shared_directory,
        is_share_mounted=True,
        is_share_external=inventory.core.nfs == "external",
        container_uid=CONTAINER_UID,
        secrets_in_memory=inventory.secrets.in_memory,
        scale_profiles=scale_profiles(node.scale),
        max_clock_skew_s=CLOCK_LEEWAY.total_seconds(),
        rank=1,
    )


def scale_profiles(scale: int) -> tuple[str, ...]:
    """Return the Compose profiles that start this number of workers of each type."""
    return tuple(f"scale-{number}" for number in range(2, scale + 1))
