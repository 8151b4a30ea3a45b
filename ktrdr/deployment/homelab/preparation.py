"""Requirements of KTRDR on its hosts, for `ktrdr host prepare`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ktrdr.deployment.homelab.hosts import CONTAINER_UID
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.prepare.plan import HostRequirements

_EXPORT: Final = "/srv/ktrdr-shared"
# docker-compose.workers.yml has the ports of all workers.
_WORKER_PORTS: Final = tuple(range(5003, 5009))
# `retry` makes mount.nfs wait for its server, here for a week.
_MOUNT_OPTIONS: Final = "nfsvers=4.2,hard,nosuid,nodev,nosymfollow,retry=10080"


def host_requirements(
    inventory: Inventory, host: Host, *, only_firewall: bool = False
) -> HostRequirements:
    """Return the requirements on a host.

    Args:
        inventory: The inventory.
        host: The host.
        only_firewall: Whether only its firewall rules may change.
    """
    core, ports, settings = inventory.core, inventory.core.ports, inventory.prepare
    is_external = core.nfs == "external"
    nodes = [node.host for node in inventory.workers.values()]
    source, options, shared = settings.share or "", _MOUNT_OPTIONS, core.shared_directory
    published: dict[tuple[int, ...], Sequence[str]] = {
        (ports.postgres, ports.otlp, *(() if is_external else (ports.nfs,))): nodes
    }
    if settings.people:
        published[ports.backend, ports.grafana, ports.jaeger] = [*settings.people, *nodes]
    if host.node:
        shared = inventory.workers[host.node].shared_directory
        published = {_WORKER_PORTS: [core.host]}
        if not source and not is_external:
            source, options = f"{core.host}:{_EXPORT}", f"{options},port={ports.nfs}"
    return HostRequirements(
        host=host,
        user="ktrdr",
        uid=CONTAINER_UID,
        shared_directory=shared,
        share_is_mounted=is_external or bool(source),
        share_source=source,
        share_options=options,
        published=published if settings.firewall else {},
        from_docker=settings.docker_packages == "docker",
        only_firewall=only_firewall,
    )
